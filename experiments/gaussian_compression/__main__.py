from experiments.common import program
from experiments.gaussian_compression import cells

if __name__ == '__main__':
  program.main(cells.run)
