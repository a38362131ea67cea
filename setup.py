"""Metadata of the ``gluon_rnn`` package; the settings of the tools are in ``pyproject.toml``.

The ranges say what can work; ``requirements/*.txt`` say, with hashes, what is installed and tested.
"""

from glob import glob

from setuptools import find_packages, setup

CORE = [
    "numpy>=1.23.5,<1.24",  # from 1.24 on `import mxnet` fails: np.bool is gone
    "gluonnlp==0.10.0",  # the last release
    "pandas>=2.2,<2.3",  # the last series that is tested with numpy 1.23
    "pydantic>=2.11,<3",  # docstrings of fields describe them (2.7); aliases are written without asking (2.11)
    "PyYAML>=6",
    "rich>=13",
    "argcomplete>=3.5",  # completion in shells
    "pooch>=1.8",
    "filelock>=3.30",
    "platformdirs>=4",
    "nvidia-ml-py>=12",
    # Tokens and stop words of tweets. Others would make other runs, which data/corpora/airline_tweets.py refuses.
    "nltk>=3.9",
    "stop-words==2018.7.23",  # the next release, of 2025, has eight times the words and needs Python 3.11
    # Reports and gates; imported where they are made, never by a worker.
    "Jinja2>=3.1",
    "matplotlib>=3.8",
    "scipy>=1.11,<1.14",  # the last series that is tested with numpy 1.23
    "statsmodels>=0.14",
    "optuna>=5,<6",  # proposes the points of a search; imported by searches alone
]

CPU = [
    "mxnet==1.9.1",
    # Preloaded in place of the OpenBLAS of 2020 inside MXNet; see gluon_rnn/machine/environment.py.
    'mkl>=2024; platform_machine == "x86_64"',
]

# The libraries of CUDA 11 that mxnet-cu112 is linked against, by soname. With them a machine needs nothing of NVIDIA's
# but the driver. CUDA 11 keeps its interface within the major version, so the last release of each will do.
CU112 = [
    "mxnet-cu112==1.9.1",
    "nvidia-cuda-runtime-cu11>=11.7,<12",  # libcudart.so.11.0
    "nvidia-cuda-nvrtc-cu11>=11.7,<12",  # libnvrtc.so.11.2
    "nvidia-nvtx-cu11>=11.7,<12",  # libnvToolsExt.so.1
    "nvidia-cublas-cu11>=11.10,<12",  # libcublas.so.11
    "nvidia-cufft-cu11>=10.7,<11",  # libcufft.so.10
    "nvidia-curand-cu11>=10.2,<11",  # libcurand.so.10
    "nvidia-cusolver-cu11>=11.4,<12",  # libcusolver.so.11
    "nvidia-cusparse-cu11>=11.7,<12",  # libcusparse.so.11, which libcusolver loads
    "nvidia-nccl-cu11>=2.14,<3",  # libnccl.so.2
    "nvidia-cudnn-cu11>=8.5,<9",  # libcudnn.so.8
    "mkl>=2024",
]

# Where a team's runs may go beside the tables: --tensorboard and --mlflow.
TRACKING = ["tensorboardX>=2.6", "mlflow-skinny>=2.14"]

# Runs on several machines: --executor ray. Its plain package, without the dashboard and its dependencies. It has wheels
# for these two kinds of machine.
RAY = ['ray>=2.49; platform_machine == "x86_64" or platform_machine == "aarch64"']

# ONNX files of trained runs, and what checks them: gluon-rnn export. Releases that run with numpy 1.23.
# There are wheels of onnxruntime for these processors alone, and nothing to build it from.
EXPORT = [
    "onnx>=1.16,<1.19",
    'onnxruntime>=1.18.1,<1.24; platform_machine == "x86_64" or platform_machine == "aarch64"',
]

# The documentation site: `make docs`. Its pages, search and icons come from these packages, so nothing is fetched.
DOCS = ["mkdocs-material>=9.6", "mkdocs>=1.6,<2"]

DEV = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.8",
    "hypothesis>=6",
    "jsonschema>=4",  # checks sweep files against their schema
    "ruff>=0.6",
    "codespell[toml]>=2.4",  # spelling, and the words of words.txt
    "mypy>=1.11",
    "import-linter>=2.11",  # which room may import which
    "pandas-stubs>=2.2,<2.3",
    "types-PyYAML",
    "playwright>=1.40",  # drives a Chromium that is installed here; it downloads none
    "tensorboard>=2.15",  # reads event files back
    "nbclient>=0.10",  # runs the notebooks of examples/
    "ipykernel>=6",
    *DOCS,
    *TRACKING,
    *RAY,
    *EXPORT,
    "uv>=0.4",  # makes the lock files
]

# What benchmarks compare with. PyTorch's builds for a CPU are not where pip looks by default: see README.md.
BENCH = ["torch>=2.6"]

setup(
    name="gluon_rnn",
    version="0.1.0",
    description="A benchmark suite for recurrent language models on MXNet Gluon and GluonNLP",
    license="Apache-2.0",
    python_requires=">=3.10,<3.12",
    packages=find_packages(include=["gluon_rnn", "gluon_rnn.*"]),
    # Said although it is the default: an editable installation then puts this folder on Python's path. Otherwise it is
    # found after all that is on the path, and so after this folder itself, where that is called gluon_rnn.
    package_dir={"": "."},
    package_data={"gluon_rnn": ["py.typed"], "gluon_rnn.reporting.report": ["report.html", "report.css", "report.js"]},
    install_requires=CORE,
    extras_require={
        "cpu": CPU,
        # The wheel exists for x86-64 alone.
        "cu112": [f'{requirement}; platform_machine == "x86_64"' for requirement in CU112],
        "dev": DEV,
        "docs": DOCS,
        "tracking": TRACKING,
        "ray": RAY,
        "export": EXPORT,
        "bench": BENCH,
    },
    # An installed package has the sweeps of the checkout, too: `gluon-rnn sweep` without a file runs quick.yaml.
    data_files=[("share/gluon_rnn/benchmarks", sorted(glob("benchmarks/*.yaml") + glob("benchmarks/*.json")))],
    entry_points={"console_scripts": ["gluon-rnn = gluon_rnn.cli:console"]},
)
