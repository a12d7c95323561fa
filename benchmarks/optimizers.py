"""Adam against SGD where the authors use Adam and we had SGD, on small budgets of real data; the learning rate of each is chosen among three, three times apart, and more where the best is the smallest or the largest of them.

speaker: EfficientTDNN's five stages, two epochs each, on a small space and 18 speakers. A rate is chosen by the mean equal error rate of four networks on the validation speakers (seed 0); then three seeds, and the mean of the same networks on the test speakers.
segmentation: a network of SSR's small space, trained for 12 epochs on CamVid at 90 x 120 pixels. It learns from one half of the training images. A rate is chosen by mIoU on the other half (seed 0); then three seeds, and mIoU on `val`.

Both go on where they were cut off. Needs the shared data (NAS_SUITE_SHARED, default ../shared)."""

import argparse, csv, os, time, torch
from pathlib import Path
from machine import machine, write
from torch.utils.data import TensorDataset
from data_recipes import camvid
from nas_suite.choices import decode, sample
from nas_suite.extraction import extract
from nas_suite.spaces.segmenter import small_segmenter
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.strategies.supernet import Supernet, five_stages, probes
from nas_suite.tasks.segmentation import segmentation
from nas_suite.tasks.speaker import speaker
from nas_suite.training import Loop, calibrated, fit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('part', nargs='?', choices=['speaker', 'segmentation'], help='default: both')
parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
args = parser.parse_args()
torch.set_num_threads(1)
machine(threads=1)
shared = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data'
path = Path(__file__).parent / 'results' / 'optimizers.csv'
rows = list(csv.DictReader(open(path))) if path.exists() else []
rates = dict(sgd=0.05, adam=1.5e-3)  # the middle one of those that are tried first


def speaker_task():
    "Training, validation and test speakers as the data set has them."
    root = shared / 'speech_asc'
    with open(root / 'utterances.csv') as file:
        valid = sorted({r['speaker'] for r in csv.DictReader(file) if r['source_split'] == 'val'})
    trials = root / 'trials_eval.txt'
    return speaker(root, trials, bands=40, embedding=64, seconds=1.5, valid=valid)


def speaker_error(task, optimizer, lr, seed, trials) -> float:
    "The mean equal error rate of four networks of a supernet that was trained by an optimizer."
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        frames = task.input_shape[1]
        space = efficient_tdnn(
            40, 64, widths=(16, 24, 32), last=(48, 72, 96), depths=(1, 2, 3), scale=4, attention=32, frames=frames
        )
    how = Supernet(five_stages(space, 2, lr), rule='uniform', distill='none', optimizer=optimizer)
    how.report = lambda *_, **__: {}  # of each stage: not asked about
    how.train(space, task, Loop(seed, progress=False))
    archs = probes(space, n=2)
    chosen = [archs[name] for name in ('largest', 'smallest', 'random 1', 'random 2')]
    nets = [calibrated(extract(space, arch), task, seed=seed) for arch in chosen]
    return sum(task.evaluate(net, trials)['eer'] for net in nets) / len(nets)


def in_memory(dataset):
    return TensorDataset(*map(torch.stack, zip(*dataset)))


def segmentation_task():
    "CamVid at half of its size here."
    size = (90, 120)
    found = {k: v for k, v in camvid.load(shared / 'camvid', size).items() if k != 'test'}
    task = segmentation(found, image_size=size, name='CamVid')
    task.train, task.valid = in_memory(task.train), in_memory(task.valid)
    return task


def segmentation_miou(task, optimizer, lr, seed, images) -> float:
    "The mIoU of a network that was trained by an optimizer on one half of the images."
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        space = small_segmenter(11, (90, 120))
    net = extract(space, decode(space, sample(space, 1, torch.Generator().manual_seed(1)))[0])
    fit(net, task, 12, lr, batch_size=8, seed=seed, data=task.train, optimizer=optimizer, progress=False)
    return task.evaluate(net, images)['miou']


def row_of(task, part, optimizer, lr, seed, run):
    "The row of a run, from the file or made now."
    key = dict(task=task, part=part, optimizer=optimizer, lr=str(lr), seed=str(seed))
    for row in rows:
        if all(row[name] == value for name, value in key.items()):
            return row
    began = time.process_time()
    value = run(optimizer, lr, seed)
    rows.append(key | dict(value=str(round(value, 4)), cpu_s=str(round(time.process_time() - began, 1))))
    print(rows[-1], flush=True)
    write('optimizers', rows)
    return rows[-1]


def rate_of(task, optimizer, run, best) -> float:
    "The rate that is better than three times as much and than a third of it."
    found, k = {}, 0
    while True:
        for i in (k - 1, k, k + 1):
            lr = float(f'{rates[optimizer] * 3**i:.2g}')
            found[i] = float(row_of(task, 'rate', optimizer, lr, 0, run)['value'])
        if (winner := best(found, key=found.get)) == k:
            return float(f'{rates[optimizer] * 3**k:.2g}')
        k = winner


def compare(task, tuned, final, best):
    "Choose a rate of each optimizer, then run all seeds with it, the optimizers in turns."
    chosen = {optimizer: rate_of(task, optimizer, tuned, best) for optimizer in rates}
    for seed in args.seeds:
        for optimizer, lr in chosen.items():
            row_of(task, 'result', optimizer, lr, seed, final)


def compare_on(name, task, measure, best):
    "Both parts on one task: rates on what is for validation, results on what is for testing."
    tuned, final = (lambda *how, part=part: measure(task, *how, part) for part in (task.valid, task.test))
    compare(name, tuned, final, best)


if args.part in (None, 'speaker'):
    compare_on('speaker', speaker_task(), speaker_error, min)
if args.part in (None, 'segmentation'):
    compare_on('segmentation', segmentation_task(), segmentation_miou, max)
