"""What gCooL is worth on Cora and Citeseer: a linear probe and clusters, beside contrast of nodes alone.

All contestants have a GCN of widths 128 and 64 and 100 steps on the whole graph; the two contrasts have the
same first weights and the same views, and differ in `community_weight` alone. Nodes are split 10/10/80 at
random by seed, the same for all contestants; the probe's penalty is chosen on validation nodes.

Temperature and drop rates were chosen on validation nodes of Cora for the contrast of nodes, with seed 100,
among 0.2, 0.4 and 0.7, and edges 0.2, 0.3 and 0.4 with features 0.1, 0.2 and 0.4; both arms have them.

What communities add was chosen on validation nodes too. With seed 100, on both graphs: K = C with weights of
0.3 and 1, which lost NMI on both and up to 7 points of accuracy on Citeseer; K = 2C with 0.3, from a tenth of
the steps on and from half. On one graph alone, and no better: "rbf" (Cora, K = C), counts of edges (Citeseer,
K = 2C), a weight of 0.1 (Citeseer, K = C). The setting that was taken was seen once more with seed 101: on
validation nodes it had more NMI on both graphs with both seeds, and about the same accuracy. The authors'
schedule never gives the contrast of communities a weight above 0.048, so a constant weight is what is tested;
theirs is reported.

"DeCA only" is the loss of detection without any contrast, its gradient let into the encoder: in the method
it trains the centres alone. The supervised GCN has dropout, and is taken from the step that is best on
validation nodes. Clusters are those of k-means with as many centres as there are classes; their NMI is with
the classes of the test nodes. The claim on them wants 2 points on one graph; on validation nodes that was
Citeseer, so it is the one that is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.run import Run
from selfstudy.data.graph_views import GraphViews, RandomViews
from selfstudy.data.graphs import Graph
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.learning.communities import density_loss
from selfstudy.methods.representation.gcool import Gcool
from selfstudy.models.encoders.communities import GraphCommunities, memberships
from selfstudy.models.encoders.graphs import GraphEncoder
from selfstudy.tasks.graphs import GraphTask, citeseer, cora

EPOCHS = 100
VIEWS = GraphViews(edges=0.3, columns=0.2)
SETTINGS = {"epochs": EPOCHS, "temperature": 0.7, "projection": 64, "views": VIEWS}
GCOOL = Gcool(**SETTINGS, community_weight=0.3, detected_first=0.5)  # K = 2C
NODES = Gcool(**SETTINGS, community_weight=0.0)
GRAPHS = {"Cora": cora, "Citeseer": citeseer}

# Two claims look at the same trained encoders: (graph, seed, contestant) -> figures.
_measured: dict[tuple[str, int, str], Values] = {}


def measured(graph: str, seed: int, name: str, train: Callable[[GraphTask, GraphEncoder], object]) -> Values:
    """Train unless it was done for another claim in this process; return accuracy and NMI."""
    if (graph, seed, name) not in _measured:
        task = GRAPHS[graph](draw=seed)
        model = task.prepared(GraphEncoder(hidden=128, width=64, seed=seed))
        trained = train(task, model)
        found: Values = {f"{name}, {graph}": float(np.mean(task.evaluate(trained).values))}
        if hasattr(trained, "embed_graph"):
            found[f"NMI of {name}, {graph}"] = task.clustering(trained.embed_graph(task.train))["nmi"]
        _measured[graph, seed, name] = found
    return _measured[graph, seed, name]


def contrast(method: Gcool, name: str, run: Run) -> Callable[[GraphTask, GraphEncoder], GraphCommunities]:
    def train(task: GraphTask, model: GraphEncoder) -> GraphCommunities:
        return run.stage(f"{name} {task.name}", lambda: method.pretrained(task, model, run))

    return train


def deca_only(task: GraphTask, model: GraphEncoder) -> GraphEncoder:
    """Minimise the loss of detection over encoder and centres."""
    learner = GraphCommunities(encoder=model.config, communities=len(task.classes), projection=64)
    learner.encoder.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(learner.parameters(), lr=GCOOL.learning_rate)
    drawn, inputs = RandomViews(task.train, 0, VIEWS), learner.encoder.prepared(task.train.features)
    adjacency = drawn.adjacency.plain()
    for epoch in range(EPOCHS):
        losses = []
        for which in (0, 1):
            projected = learner.projected(learner.encoder(inputs, *drawn.view(2 * epoch + which)))
            belongs = memberships(projected, learner.centres[0], GCOOL.temperature)
            losses.append(density_loss(belongs, adjacency, GCOOL.inter_weight))
        torch.stack(losses).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return learner.encoder


class Classifier:
    """What a classifier says of all nodes."""

    def __init__(self, told: torch.Tensor) -> None:
        self.told = told

    def classify(self, graph: Graph) -> torch.Tensor:  # noqa: D102
        return self.told


def raw_features(task: GraphTask, model: GraphEncoder) -> Classifier:
    """Fit logistic regressions on the features, in rows of length 1; take the best on validation nodes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    rows, (places, labels) = normalize(task.train.features), task.labelled
    fitted = [
        LogisticRegression(C=10.0**power, max_iter=1000).fit(rows[places], labels) for power in range(-2, 5)
    ]
    return best_on_validation(task, [Classifier(torch.from_numpy(each.predict(rows))) for each in fitted])


def best_on_validation(task: GraphTask, found: list[Classifier]) -> Classifier:
    return max(found, key=lambda told: float(np.mean(task.evaluate(told, split="validation").values)))


def supervised(task: GraphTask, model: GraphEncoder) -> Classifier:
    """Train on the labelled nodes, with dropout 0.5 and weight decay 5e-4 (Kipf and Welling 2017)."""
    encoder, classes = model.copy(), len(task.classes)
    generator = torch.Generator().manual_seed(model.config["seed"])
    head = torch.nn.Linear(encoder.width, classes)
    torch.nn.init.xavier_uniform_(head.weight, generator=generator)
    weights = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.01, weight_decay=5e-4)
    inputs, adjacency = encoder.prepared(task.train.features), encoder.propagations(task.train)[0]
    places, labels = (torch.from_numpy(part) for part in task.labelled)
    found = []
    for _ in range(EPOCHS):
        embedded = encoder(inputs, adjacency)
        kept = torch.rand(embedded.shape, generator=generator) < 0.5
        loss = functional.cross_entropy(head(2 * kept * embedded)[places], labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            found.append(Classifier(head(encoder(inputs, adjacency)).argmax(1)))
    return best_on_validation(task, found)


def both_contrasts(seed: int, run: Run, graph: str) -> Values:
    arms = {"gcool": GCOOL, "node contrast only": NODES}
    return {
        key: figure
        for name, method in arms.items()
        for key, figure in measured(graph, seed, name, contrast(method, name, run)).items()
    }


def probe_seed(seed: int, run: Run) -> Values:
    """Claim 1: accuracy of the linear probe, of all contestants."""
    values: Values = {}
    for graph in GRAPHS:
        values |= both_contrasts(seed, run, graph)
        values |= measured(graph, seed, "raw features", raw_features)
        values |= measured(graph, seed, "random initialisation", lambda task, model: model)
        values |= measured(graph, seed, "DeCA only", deca_only)
        values |= measured(graph, seed, "supervised from scratch", supervised)
    weights = [GCOOL.weights(epoch).contrast for epoch in range(EPOCHS)]
    return {**values, "effective community weight, mean over epochs": float(np.mean(weights))}


def clusters_seed(seed: int, run: Run) -> Values:
    """Claim 2: NMI of k-means."""
    values: Values = {}
    for graph in GRAPHS:
        found = both_contrasts(seed, run, graph)
        values |= {key: figure for key, figure in found.items() if key.startswith("NMI")}
        with_communities, without = (
            found[f"NMI of {name}, {graph}"] for name in ("gcool", "node contrast only")
        )
        values[f"gain in NMI, {graph}"] = with_communities - without  # type: ignore[operator]
    return values


def sensitivity_seed(seed: int, run: Run) -> Values:
    """K, and the authors' schedule; Cora alone."""
    task = cora(draw=seed)
    classes = len(task.classes)
    arms = {f"K = {name}": replace(GCOOL, communities=count) for name, count in counts(classes).items()}
    arms["K = 2C, the authors' schedule"] = replace(GCOOL, schedule="fading", stride=5.0)
    arms["node contrast only"] = NODES
    values: Values = {}
    for name, method in arms.items():
        known = "gcool" if method == replace(GCOOL, communities=2 * classes) else name
        found = measured("Cora", seed, known, contrast(method, known, run))
        values |= {key.replace(f"{known}, Cora", name): figure for key, figure in found.items()}
    best = max(values[f"K = {name}"] for name in counts(classes))  # type: ignore[type-var]
    values["2 points left of the best K"] = values["K = 2C"] - best + 0.02  # type: ignore[operator]
    return values


def counts(classes: int) -> dict[str, int]:
    return {"C / 2": classes // 2, "C": classes, "2C": 2 * classes}


CLAIMS = [
    Claim(
        name="R1-probe",
        statement="On Cora and Citeseer, with equal steps and encoder, contrast of nodes and communities has "
        "a higher accuracy of the linear probe than contrast of nodes alone.",
        seeds=range(10),
        measure=probe_seed,
        relations=[
            Relation(f"over nodes alone, {graph}", f"gcool, {graph}", f"node contrast only, {graph}")
            for graph in GRAPHS
        ],
    ),
    Claim(
        name="R2-clusters",
        statement="The NMI of k-means clusters is higher by 2 points than with contrast of nodes alone on "
        "Citeseer, and on Cora higher too.",
        seeds=range(10),
        measure=clusters_seed,
        relations=[
            Relation("2 points, Citeseer", "gain in NMI, Citeseer", 0.02),
            Relation("no loss, Cora", "gain in NMI, Cora", 0.0),
        ],
    ),
    Claim(
        name="K-sensitivity",
        statement="On Cora, twice as many communities as classes are not worse by 2 points of accuracy than "
        "as many, or half as many.",
        seeds=range(3),
        measure=sensitivity_seed,
        relations=[Relation("within 2 points of the best K", "2 points left of the best K", 0.0)],
    ),
]
