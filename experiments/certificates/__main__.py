from experiments.certificates import cells
from experiments.common import program

if __name__ == '__main__':
  program.main(cells.run)
