"What the site has beside the notebooks' pages: cards with pictures, galleries, questions, notebooks to download."

import base64, json, shutil
from dataclasses import dataclass
from pathlib import Path

here = Path(__file__).resolve().parent


@dataclass
class Card:
    "A way into the site."

    page: str  # The path of a notebook below nbs, without its ending
    title: str
    text: str
    picture: tuple = None  # (path of a notebook, which of its pictures) or the name of a file in nbs/images


FRONT = [
    Card(
        'tutorials/00_budget',
        'Start here',
        'From photos and a time limit to a network that runs within it.',
        ('front/25_report', 0),
    ),
    Card(
        'tutorials/01_your_own_network',
        'Your own network',
        'Write `one_of(16, 32)` where an int stands, and search it.',
        ('core/00_choices', 0),
    ),
    Card(
        'tutorials/02_train_once',
        'Train once, deploy everywhere',
        'One supernet, and a network for each device in seconds.',
        ('tutorials/02_train_once', 0),
    ),
    Card(
        'tutorials/06_phone_table',
        'A phone or a board',
        'Measure it by files alone, and search for it from here.',
        ('tutorials/06_phone_table', 0),
    ),
    Card(
        'tutorials/04_speaker',
        'Voices',
        'Recordings in, a network that tells speakers apart out.',
        ('tutorials/04_speaker', 0),
    ),
    Card(
        'tutorials/05_segmentation',
        'Masks',
        'A class for every pixel, as fast as the camera delivers.',
        ('tutorials/05_segmentation', 2),
    ),
]

RESULTS = [
    Card(
        'tutorials/14_scoreboard',
        'Searches where the truth is known',
        'Thirteen searches on twelve tables, fifty seeds each.',
        'scoreboard.png',
    ),
    Card(
        'tutorials/15_three_tasks',
        'Three real tasks',
        'Found, random and hand-designed networks of one latency.',
        ('tutorials/15_three_tasks', 0),
    ),
    Card(
        'latency/01_tables',
        'A table of units against whole networks',
        'How well a sum of units says what a network takes.',
        ('latency/01_tables', 2),
    ),
    Card(
        'latency/03_few_shot',
        'Latency from ten measurements',
        'Errors and ranks on devices that were never used.',
        ('latency/03_few_shot', 1),
    ),
    Card(
        'latency/05_oneproxy',
        'Where devices rank alike',
        'Which devices may stand for which others.',
        ('latency/05_oneproxy', 0),
    ),
    Card(
        'strategies/22_pools',
        'What a device likes',
        'Operators by what they cost on it and what they give.',
        ('strategies/22_pools', 1),
    ),
    Card(
        'strategies/07_fronts',
        'The whole front',
        'Networks that no other beats in both score and costs.',
        ('strategies/07_fronts', 0),
    ),
    Card(
        'strategies/03_supernet',
        'Supernets',
        'Training rules side by side, on the same networks.',
        ('strategies/03_supernet', 0),
    ),
    Card(
        'tasks/speaker/08_results',
        'Speakers',
        'Error rates of a supernet and of networks found in it.',
        ('tasks/speaker/08_results', 0),
    ),
]


def pictures(notebook: Path) -> list:
    "The PNGs among the stored outputs of a notebook."
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    outputs = [output for cell in cells for output in cell.get('outputs', [])]
    found = [output['data']['image/png'] for output in outputs if 'image/png' in output.get('data', {})]
    return [base64.b64decode(text if isinstance(text, str) else ''.join(text)) for text in found]


class Site:
    "The source folder of the site, with the notebooks that it is made from."

    def __init__(self, notebooks: Path, dest: Path, renamed: dict):
        self.notebooks, self.dest = notebooks, dest
        self.pages = {old.with_suffix('').as_posix(): new.with_suffix('').as_posix() for old, new in renamed.items()}

    def picture(self, wanted) -> str:
        "The address of a picture within the site; None where a notebook has none."
        if wanted is None or isinstance(wanted, str):
            return wanted and f'/images/{wanted}'
        page, place = wanted
        found = pictures(self.notebooks / f'{page}.ipynb')
        if len(found) <= place:
            return None
        name = f'{page.replace("/", "_")}_{place}.png'
        (self.dest / 'images').mkdir(exist_ok=True)
        (self.dest / 'images' / name).write_bytes(found[place])
        return f'/images/{name}'

    def card(self, card: Card) -> str:
        "One card, as MyST."
        address = self.picture(card.picture)
        image = f':img-top: {address}\n:img-alt: {card.title}\n' if address else ''
        options = f':link: /{self.pages[card.page]}\n:link-type: doc\n{image}'
        return f'::::{{grid-item-card}} {card.title}\n{options}\n{card.text}\n::::\n'

    def grid(self, cards: list) -> str:
        "Cards side by side: one, two or three a row, by the width of the window."
        inside = '\n'.join(map(self.card, cards))
        return f':::::{{grid}} 1 2 3 3\n:gutter: 3\n:class-container: cards\n\n{inside}\n:::::\n'

    def gallery(self, folder: str) -> str:
        "A card for each notebook of a folder: its title, its one line, and its first picture."
        cards = []
        for page in sorted(page for page in self.pages if page.startswith(f'{folder}/')):
            first = json.loads((self.notebooks / f'{page}.ipynb').read_text(encoding='utf-8'))['cells'][0]['source']
            title, _, line = (text.lstrip('#> ') for text in ''.join(first).splitlines()[:3])
            cards.append(Card(page, title, line, (page, 0)))
        return self.grid(cards)

    def download(self, page: str) -> str:
        "A line that offers a notebook as it is, for JupyterLab."
        kept = self.dest / 'notebooks' / f'{page}.ipynb'
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.notebooks / f'{page}.ipynb', kept)
        return f'\n{{download}}`Download this notebook </notebooks/{page}.ipynb>`\n'

    def results(self) -> str:
        "The gallery of results."
        said = (
            'Each picture is drawn from a small CSV that a script in `benchmarks/` wrote; its page says how, and what '
        )
        return f'# Results\n\n{said}did not work.\n\n{self.grid(RESULTS)}'

    def page(self, name: str) -> str:
        "A text beside this file, with its links to notebooks led to their pages."
        text = (here / f'{name}.md').read_text(encoding='utf-8')
        for old, new in self.pages.items():
            text = text.replace(f']({old})', f'](/{new})')
        return text.replace('](../nbs/images/', '](/images/')
