from edgepact.api import load_study as load_study
from edgepact.api import quote as quote
from edgepact.api import run as run
from edgepact.api import solve as solve
from edgepact.api import study as study
from edgepact.api import train as train
from edgepact.errors import EdgepactError as EdgepactError
from edgepact.errors import InputError as InputError
from edgepact.errors import InputWarning as InputWarning
from edgepact.errors import MarketError as MarketError
from edgepact.errors import MissingExtraError as MissingExtraError
from edgepact.fleet import Fleet as Fleet
from edgepact.live.run_config import RunConfig as RunConfig
from edgepact.mechanisms.contract.terms import Contract as Contract
from edgepact.mechanisms.stackelberg.terms import Game as Game
from edgepact.problem import Payoff as Payoff
from edgepact.problem import Problem as Problem
from edgepact.registry import installed as installed
from edgepact.registry import part as part
from edgepact.registry import parts as parts
from edgepact.solvers.learners import training as _training
from edgepact.solvers.learners.diffusion import Diffusion as Diffusion
from edgepact.solvers.learners.ppo import PPO as PPO
from edgepact.solvers.learners.random import Random as Random
from edgepact.training.federated.config import TrainConfig as TrainConfig

learn = _training.train
__version__: str
