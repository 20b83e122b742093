from experiments.common import program
from experiments.sketching_bounds import cells

if __name__ == '__main__':
  program.main(cells.run)
