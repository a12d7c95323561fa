"The program nas-suite: `python -m nas_suite`, and `torchrun -m nas_suite` on many devices."
from nas_suite.cli import main

if __name__ == '__main__': main()
