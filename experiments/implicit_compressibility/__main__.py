from experiments.common import program
from experiments.implicit_compressibility import cells

if __name__ == '__main__':
  program.main(cells.run)
