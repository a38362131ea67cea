"""Other tools' names of our settings, for hints in error messages."""

from __future__ import annotations

import re

_OTHERS = {
    "alpha": "ar",
    "batch_size": "b batch batchsize bs bsz train_batch_size per_device_train_batch_size",
    "beta": "tar",
    "bidirectional": "bi bidir birnn",
    "bptt": "context context_length seq_len seq_length seqlen sequence_length timesteps unroll window",
    "cell": "cell_type rnn rnn_cell rnn_type type",
    "clip": "clip_grad clip_norm clipping grad_clip gradient_clip gradient_clipping max_grad_norm max_norm",
    "dataset": "corpus data data_path dataset_name",
    "device": "ctx cuda gpu gpus",
    "dropout": "drop dropout_rate p",
    "dropout_embedding": "dropoute embed_dropout",
    "dropout_hidden": "dropouth hidden_dropout recurrent_dropout",
    "dropout_input": "dropouti input_dropout",
    "embed_size": "d_model emb emb_dim emb_size embed embed_dim embedding_dim embedding_size embsize emsize",
    "embedding": "embeddings glove pretrained vectors word_vectors",
    "epochs": "epoch max_epochs n_epochs nepochs num_epochs num_train_epochs",
    "eval_batch_size": "eval_batch test_batch_size valid_batch_size",
    "hidden_size": "d_hidden h_dim hid hidden hidden_dim hidden_units hiddens hsz n_hidden nhid nhidden num_hidden "
    "rnn_size size units",
    "initializer": "init initialization initialiser",
    "learning_rate": "eta eta0 initial_lr learningrate lr",
    "log_interval": "log_every log_every_n_steps log_freq log_frequency logging_steps print_freq report_interval",
    "lower": "lowercase do_lower_case",
    "lr_decay": "anneal decay gamma lrd",
    "lr_patience": "patience",
    "lr_schedule": "lr_scheduler lr_scheduler_type sched schedule scheduler",
    "lr_steps": "milestones",
    "max_steps": "iterations iters max_iters num_steps steps",
    "max_train_tokens": "max_tokens train_tokens",
    "min_freq": "min_count min_frequency",
    "model": "arch architecture network",
    "num_layers": "depth layers n_layer n_layers nlayer nlayers num_layer num_hidden_layers",
    "objective": "task",
    "optimizer": "opt optim optimiser",
    "precision": "amp dtype fp16",
    "sampled_softmax": "adaptive_softmax n_sampled nsampled num_sampled",
    "seed": "manual_seed random_seed random_state rng seeds",
    "threads": "cores cpus n_threads nthreads num_threads num_workers omp_num_threads workers",
    "tie_weights": "share_weights tie tie_embeddings tie_word_embeddings tied tied_weights tying weight_tying",
    "time_budget": "max_time time_limit",
    "warmup_steps": "warmup",
    "weight_decay": "l2 lambda reg wd wdecay",
    "weight_drop": "wdrop weight_dropout",
}
#: A setting by what others call it.
ALIASES = {other: name for name, others in _OTHERS.items() for other in others.split()}


def plain(name: str) -> str:
    """`name` as our settings are spelt: ``log_interval`` of ``--log-interval`` or ``logInterval``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip().lstrip("-"))
    return spaced.replace("-", "_").lower()
