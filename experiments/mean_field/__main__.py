from experiments.common import program
from experiments.mean_field import cells

if __name__ == '__main__':
  program.main(cells.run)
