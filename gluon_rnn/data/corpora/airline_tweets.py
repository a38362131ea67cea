"""Twitter US Airline Sentiment: 14,640 tweets of February 2015, each negative, neutral or positive.

Collected by CrowdFlower (Figure Eight) and published on Kaggle, which asks for a login, as Tweets.csv of 15 columns
(3,421,431 bytes). The public copies below serve the same bytes (their Git blobs were compared; the addresses themselves
could not be tried where this was written). Of the columns five are kept: `FILES` names the file that is made of them,
which is also accepted from disk. You may put Kaggle's file there instead.

How the tweets are read:

* tokens in lower case by NLTK's ``TweetTokenizer``, without the 174 English stop words of ``stop-words`` 2018.7.23 (the
  1,333 of its later release hold "great", "best" and "sorry", which would take the mood out with the noise);
* no tweet is left empty by that, since each names an airline;
* 30 % are test and of the rest 30 % validation, at random with each class's share kept, by GluonNLP's
  ``train_valid_split``. The seed is the corpus's own, not the run's: every run scores the same tweets.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from gluon_rnn.data.corpora.facts import Labelled, Published, Source
from gluon_rnn.data.corpora.labelled import Sequence, write

NAME = "airline-tweets"
FILES = {"tweets": "Tweets.csv"}
COLUMNS = ("tweet_id", "airline_sentiment", "airline", "retweet_count", "text")
SEED = 2015
HELD_OUT = 0.3  # of all for test, then of the rest for validation


def five_columns(content: bytes) -> bytes:
    """Return the file of `COLUMNS` that is made of Kaggle's."""
    rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
    made = io.StringIO(newline="")
    writer = csv.DictWriter(made, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue().encode()


def read(folder: Path) -> dict[str, bytes]:
    """Return the splits, a tweet a line as `gluon_rnn.data.corpora.labelled` has it: about 3 s."""
    from nltk.tokenize import TweetTokenizer
    from stop_words import get_stop_words

    from gluon_rnn.data.corpora.splitting import split

    tokenize, stop_words = TweetTokenizer(preserve_case=False).tokenize, set(get_stop_words("english"))
    tweets = []
    with (folder / FILES["tweets"]).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            words = [word for word in tokenize(row["text"]) if word not in stop_words]
            tweets.append(Sequence(words, [row["airline_sentiment"]]))
    classes = sorted({tweet.labels[0] for tweet in tweets})
    rest, test = split(tweets, HELD_OUT, seed=SEED, strata=[classes.index(tweet.labels[0]) for tweet in tweets])
    train, valid = split(rest, HELD_OUT, seed=SEED, strata=[classes.index(tweet.labels[0]) for tweet in rest])
    return {name: write(part, "classification") for name, part in (("train", train), ("valid", valid), ("test", test))}


CORPUS = Published(
    name=NAME,
    title="Twitter US Airline Sentiment",
    files=FILES,
    sha1s={"tweets": "2214c94fc0071fa0f714c0d572be6735f1cd4a98"},
    sources=(
        Source("https://raw.githubusercontent.com/kolaveridi/kaggle-Twitter-US-Airline-Sentiment-/master/", FILES),
        Source("https://raw.githubusercontent.com/satyajeetkrjha/kaggle-Twitter-US-Airline-Sentiment-/master/", FILES),
        Source("https://raw.githubusercontent.com/RIDDHESH-CMD/Sentiment-Analysis-ML-project/main/", FILES),
    ),
    forms={"935f11320d56b1e3730ba786d0cae2f16cc152a9": five_columns},
    labelled=Labelled(
        objective="classification",
        sha1="e6e4119c91df398c2608ac193ff18ad757e4383f",
        tokens=(92_943, 39_506, 56_947),
        read=read,
    ),
)
