from experiments.common import program
from experiments.heavy_tails_sgd import cells

if __name__ == '__main__':
  program.main(cells.run)
