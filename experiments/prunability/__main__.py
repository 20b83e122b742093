from experiments.common import program
from experiments.prunability import cells

if __name__ == '__main__':
  program.main(cells.run)
