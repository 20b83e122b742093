from experiments.common import program
from experiments.tail_estimators import cells

if __name__ == '__main__':
  program.main(cells.run)
