from flipscale.train.data.pairs import Data
