"The picture of README: four cases of the scoreboard, drawn from its results into nbs/images/scoreboard.png."

from pathlib import Path
import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import pandas as pd

here = Path(__file__).parent
CASES = {
    ('NAS-Bench-201', 'none'): 'NAS-Bench-201, no limit',
    ('NAS-Bench-201', 'pixel2 50%'): 'half of what a Pixel 2 takes',
    ('NAS-Bench-201', 'fpga 50%'): 'half of what an FPGA takes',
    ('NAS-Bench-Macro', 'FLOPs 25%'): 'NAS-Bench-Macro, few FLOPs',
}
SEARCHES = {'bayesian': 'C3', 'localsearch': 'C0', 'aging evolution': 'C2', 'random that fills': 'k'}


def draw(ax, rows, title: str):
    "Regret over queries, the mean of all seeds with two standard errors to either side."
    for name, colour in SEARCHES.items():
        mine = rows[rows.strategy == name].sort_values('queries')
        error = 2 * mine.sd / mine.seeds**0.5
        ax.plot(mine.queries, mine.regret, color=colour, label=name)
        ax.fill_between(mine.queries, mine.regret - error, mine.regret + error, color=colour, alpha=0.15, lw=0)
    ax.set(xscale='log', xlabel='networks asked for', ylim=(0, None))
    ax.set_title(title, fontsize=9)
    ax.set_xticks([10, 25, 100, 400], ['10', '25', '100', '400'])
    ax.minorticks_off()


def main():
    rows = pd.read_csv(here / 'results/scoreboard.csv')
    rows['budget'] = rows.budget.fillna('none')
    fig, axes = plt.subplots(1, len(CASES), figsize=(11, 2.9), dpi=90)
    for ax, ((table, budget), title) in zip(axes, CASES.items()):
        draw(ax, rows[(rows.table == table) & (rows.budget == budget)], title)
    axes[0].set_ylabel('points from the best')
    axes[0].legend(fontsize=7)
    fig.tight_layout()
    fig.savefig(here.parent / 'nbs/images/scoreboard.png')


if __name__ == '__main__':
    main()
