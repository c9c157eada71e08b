"""The index of methods: a plain table, read without importing torch or any method."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfstudy.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from selfstudy.core.method import Method


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the index."""

    slug: str
    title: str
    authors: str
    year: int
    family: str
    needs: str
    gives: str
    target: str
    """`module:Class`"""
    model: str = "tiny-lm"
    """What it starts from unless told."""
    task: str = ""
    """What it works on unless told; the user's own problems where empty."""

    def load(self) -> type[Method]:
        """Import the method's class."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)

    def default_task(self) -> str:
        """Return what it works on unless told.

        Raises:
            UsageError: that is the user's to say.
        """
        if not self.task:
            raise UsageError(
                f"The method {self.slug!r} needs problems to work on. Name them, such as --task chain100 or "
                "--task jsonl:mine.jsonl."
            )
        return self.task


METHODS: dict[str, Entry] = {
    entry.slug: entry
    for entry in (
        Entry(
            slug="rest-mcts",
            title="ReST-MCTS*: LLM Self-Training via Process Reward Guided Tree Search",
            authors="Zhang, Zhoubian, Hu, Yue, Dong, Tang",
            year=2024,
            family="reasoning",
            needs="a causal LM, problems with checkable answers",
            gives="a better policy, a value model, search trees",
            target="selfstudy.methods.reasoning.rest_mcts:RestMcts",
        ),
        Entry(
            slug="rest-em",
            title="ReST-EM: Beyond Human Data, Scaling Self-Training with Language Models",
            authors="Singh, Co-Reyes, Agarwal et al.",
            year=2023,
            family="reasoning",
            needs="a causal LM, problems with checkable answers",
            gives="a better policy",
            target="selfstudy.methods.reasoning.rest_em:RestEm",
        ),
        Entry(
            slug="grpo",
            title="GRPO: Group Relative Policy Optimisation",
            authors="Shao, Wang, Zhu et al.",
            year=2024,
            family="reasoning",
            needs="a causal LM, problems with checkable answers",
            gives="a better policy",
            target="selfstudy.methods.reasoning.grpo:Grpo",
        ),
        Entry(
            slug="self-rewarding",
            title="Self-Rewarding Language Models",
            authors="Yuan, Pang, Cho, Li, Sukhbaatar, Xu, Weston",
            year=2024,
            family="reasoning",
            needs="a causal LM, prompts",
            gives="a better policy",
            target="selfstudy.methods.reasoning.self_rewarding:SelfRewarding",
        ),
        Entry(
            slug="guide",
            title="Adaptive Guidance Accelerates Reinforcement Learning of Reasoning Models",
            authors="Nath, Lau, Gunjal, Sharma, Baharte, Hendryx",
            year=2025,
            family="reasoning",
            needs="a causal LM, problems with checkable answers, hints for some",
            gives="a better policy that needs no hints",
            target="selfstudy.methods.reasoning.guide:Guide",
        ),
        Entry(
            slug="mm-upt",
            title="Unsupervised Post-Training for Multi-Modal LLM Reasoning via GRPO (MM-UPT)",
            authors="Wei, Li, Wang, Wang, Kong, Huang, Sun",
            year=2025,
            family="reasoning",
            needs="a causal or vision-language LM, problems without answers",
            gives="a better policy",
            target="selfstudy.methods.reasoning.mm_upt:MmUpt",
        ),
        Entry(
            slug="rest-rl",
            title="ReST-RL: Accurate Code Reasoning by Optimised Self-Training and Decoding",
            authors="Zhoubian, Zhang, Tang",
            year=2025,
            family="reasoning",
            needs="a causal LM, programming problems with tests",
            gives="a better policy, a value model that guides decoding",
            target="selfstudy.methods.reasoning.rest_rl:RestRl",
        ),
        Entry(
            slug="trice",
            title="Training Chain-of-Thought via Latent-Variable Inference (TRICE)",
            authors="Phan, Hoffman, Dohan, Douglas, Le, Parisi, Sountsov, Sutton, Vikram, Saurous",
            year=2023,
            family="reasoning",
            needs="a causal LM, problems with checkable answers",
            gives="a better policy, a rationale for every problem",
            target="selfstudy.methods.reasoning.trice:Trice",
        ),
        Entry(
            slug="sharpening",
            title="Self-Improvement in Language Models: The Sharpening Mechanism",
            authors="Huang, Block, Foster, Rohatgi, Zhang, Simchowitz, Ash, Krishnamurthy",
            year=2024,
            family="reasoning",
            needs="a causal LM, prompts",
            gives="a policy that gives at once what it would choose among many",
            target="selfstudy.methods.reasoning.sharpening:Sharpening",
        ),
        Entry(
            slug="dno",
            title="Direct Nash Optimization (DNO): Self-Improvement with General Preferences",
            authors="Rosset, Cheng, Mitra, Santacroce, Awadallah, Xie",
            year=2024,
            family="reasoning",
            needs="a causal LM, prompts, a judge that compares answers",
            gives="a better policy",
            target="selfstudy.methods.reasoning.dno:Dno",
        ),
        Entry(
            slug="astro",
            title="ASTRO: Teaching Language Models to Reason by Reflecting and Backtracking In-Context",
            authors="Kim, Goyal, Tan, Hajishirzi, Iyer, Wang",
            year=2025,
            family="reasoning",
            needs="a causal LM, problems with checkable answers",
            gives="a policy that notices mistakes and goes back",
            target="selfstudy.methods.reasoning.astro:Astro",
        ),
        Entry(
            slug="icl-gd",
            title="Transformers Learn In-Context by Gradient Descent",
            authors="von Oswald, Niklasson, Randazzo, Sacramento, Mordvintsev, Zhmoginov, Vladymyrov",
            year=2022,
            family="mechanisms",
            needs="a linear self-attention model, regression in context",
            gives="a trained model, and how close it is to gradient descent",
            target="selfstudy.methods.mechanisms.icl_gd:IclGd",
            model="linear-attention",
            task="in-context-regression",
        ),
        Entry(
            slug="one-step-gd",
            title="One Step of Gradient Descent is Provably the Optimal In-Context Learner with One Layer of "
            "Linear Self-Attention",
            authors="Mahankali, Hashimoto, Ma",
            year=2023,
            family="mechanisms",
            needs="a layer of linear self-attention, regression in context",
            gives="a trained layer, and how close it is to the best possible one",
            target="selfstudy.methods.mechanisms.one_step_gd:OneStepGd",
            model="bilinear-attention",
            task="in-context-regression?inputs=gaussian&dimensions=5&context=20",
        ),
        Entry(
            slug="gpicl",
            title="General-Purpose In-Context Learning by Meta-Learning Transformers",
            authors="Kirsch, Harrison, Sohl-Dickstein, Metz",
            year=2022,
            family="mechanisms",
            needs="a sequence model, labelled images",
            gives="a classifier that learns from examples in its context",
            target="selfstudy.methods.mechanisms.gpicl:Gpicl",
            model="sequence-transformer",
            task="projected-images",
        ),
        Entry(
            slug="scan-and-snap",
            title="Scan and Snap: Understanding Training Dynamics and Token Composition in 1-layer "
            "Transformer",
            authors="Tian, Wang, Chen, Du",
            year=2023,
            family="mechanisms",
            needs="a layer of attention with its decoder, sequences of tokens",
            gives="a trained layer, and which tokens it came to attend to",
            target="selfstudy.methods.mechanisms.scan_and_snap:ScanAndSnap",
            model="attention-decoder",
            task="cooccurrence",
        ),
        Entry(
            slug="self-sorting",
            title="Classical Sorting Algorithms as a Model of Morphogenesis",
            authors="Zhang, Goldstein, Levin",
            year=2024,
            family="mechanisms",
            needs="a sorting algorithm, arrays with damaged cells",
            gives="cells that sort themselves, and what they can do that the algorithm cannot",
            target="selfstudy.methods.mechanisms.self_sorting:SelfSorting",
            model="top-down-bubble",
            task="arrays",
        ),
        Entry(
            slug="barlow-twins",
            title="Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
            authors="Zbontar, Jing, Misra, LeCun, Deny",
            year=2021,
            family="representation",
            needs="an image encoder, images without labels",
            gives="a pre-trained encoder",
            target="selfstudy.methods.representation.barlow_twins:BarlowTwins",
            model="conv",
            task="digits",
        ),
        Entry(
            slug="mixed-barlow-twins",
            title="Guarding Barlow Twins Against Overfitting with Mixed Samples",
            authors="Bandara, De Melo, Patel",
            year=2023,
            family="representation",
            needs="an image encoder, images without labels",
            gives="a pre-trained encoder",
            target="selfstudy.methods.representation.mixed_barlow_twins:MixedBarlowTwins",
            model="conv",
            task="digits",
        ),
        Entry(
            slug="isogclr",
            title="Not All Semantics are Created Equal: Contrastive Self-supervised Learning with Automatic "
            "Temperature Individualization",
            authors="Qiu, Hu, Yuan, Zhou, Zhang, Yang",
            year=2023,
            family="representation",
            needs="an image encoder, images without labels",
            gives="a pre-trained encoder, a temperature of each image",
            target="selfstudy.methods.representation.isogclr:Isogclr",
            model="conv",
            task="digits",
        ),
        Entry(
            slug="sla",
            title="Self-supervised Label Augmentation via Input Transformations",
            authors="Lee, Hwang, Shin",
            year=2020,
            family="representation",
            needs="an image encoder, labelled images",
            gives="a classifier",
            target="selfstudy.methods.representation.sla:Sla",
            model="conv",
            task="digits",
        ),
        Entry(
            slug="t-jepa",
            title="T-JEPA: Augmentation-Free Self-Supervised Learning for Tabular Data",
            authors="Thimonier, De Melo Costa, Popineau, Rimmel, Doan",
            year=2024,
            family="representation",
            needs="a tabular transformer, a table",
            gives="a pre-trained encoder of rows",
            target="selfstudy.methods.representation.t_jepa:TJepa",
            model="tabular-transformer",
            task="breast-cancer",
        ),
        Entry(
            slug="gcool",
            title="Graph Communal Contrastive Learning",
            authors="Li, Jing, Tong",
            year=2022,
            family="representation",
            needs="a graph encoder, a graph whose nodes have features",
            gives="a pre-trained encoder of nodes, communities",
            target="selfstudy.methods.representation.gcool:Gcool",
            model="gcn",
            task="blocks",
        ),
        Entry(
            slug="hast",
            title="Self-Training for Sample-Efficient Active Learning for Text Classification with "
            "Pre-Trained Language Models",
            authors="Schröder, Heyer",
            year=2024,
            family="pseudolabels",
            needs="an encoder, a pool with few labels, somebody to ask",
            gives="a classifier, a label of each item and where it is from",
            target="selfstudy.methods.pseudolabels.hast:Hast",
            model="words",
            task="pool:messages",
        ),
        Entry(
            slug="pseudo-label-pretraining",
            title="Predictions For Pre-training Language Models",
            authors="Guo",
            year=2020,
            family="pseudolabels",
            needs="an encoder, a pool with few labels",
            gives="a classifier, a label of each item and where it is from",
            target="selfstudy.methods.pseudolabels.pseudo_label_pretraining:PseudoLabelPretraining",
            model="flat",
            task="pool:digits?labels=20",
        ),
        Entry(
            slug="aspl",
            title="Active Self-Paced Learning for Cost-Effective and Progressive Face Identification",
            authors="Lin, Wang, Meng, Zuo, Zhang",
            year=2017,
            family="pseudolabels",
            needs="an encoder, a pool with few labels, somebody to ask",
            gives="a classifier that may know new classes, a label of each item and where it is from",
            target="selfstudy.methods.pseudolabels.aspl:Aspl",
            model="flat",
            task="pool:digits?labels=20",
        ),
        Entry(
            slug="web-noise",
            title="An Accurate Detection Is Not All You Need to Combat Label Noise in Web-Noisy Datasets",
            authors="Albert, Valmadre, Arazo, Krishna, O'Connor, McGuinness",
            year=2024,
            family="pseudolabels",
            needs="an encoder, labelled items some of whose labels are wrong",
            gives="a classifier, the items whose label is suspect",
            target="selfstudy.methods.pseudolabels.web_noise:WebNoise",
            model="conv",
            task="noisy:digits",
        ),
        Entry(
            slug="transductive-clustering",
            title="Transductive Few-Shot Learning: Clustering is All You Need?",
            authors="Ziko, Boudiaf, Dolz, Granger, Ben Ayed",
            year=2021,
            family="pseudolabels",
            needs="a frozen encoder, a few labels of each class, items that come in batches",
            gives="a classifier of whole batches, a label of each item",
            target="selfstudy.methods.pseudolabels.transductive_clustering:TransductiveClustering",
            model="flat",
            task="pool:digits?labels=20",
        ),
        Entry(
            slug="loki",
            title="Geometry-Aware Adaptation for Pretrained Models",
            authors="Roberts, Li, Adila, Cromp, Huang, Zhao, Sala",
            year=2023,
            family="pseudolabels",
            needs="a classifier or an encoder with labels, a metric between labels",
            gives="predictions of classes that were never seen, the class to label next",
            target="selfstudy.methods.pseudolabels.loki:Loki",
            model="flat",
            task="rotated-digits",
        ),
        Entry(
            slug="lion",
            title="Symbolic Discovery of Optimization Algorithms",
            authors="Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le",
            year=2023,
            family="training",
            needs="an encoder, labelled images",
            gives="a classifier trained by Lion, or by an update rule found by evolution",
            target="selfstudy.methods.training.lion:LionTraining",
            model="mlp",
            task="digits?labels=1000",
        ),
        Entry(
            slug="infinite-lr",
            title="Beyond Cosine Decay: On the Effectiveness of Infinite Learning Rate Schedule for "
            "Continual Pre-training",
            authors="Singh, Janson, Mehrbod, Ibrahim, Rish, Belilovsky, Thérien",
            year=2025,
            family="training",
            needs="a language model, texts that arrive one domain after another",
            gives="a model after every domain, what it forgot and took up",
            target="selfstudy.methods.training.infinite_lr:InfiniteLr",
            model="byte-lm",
            task="made-domains",
        ),
        Entry(
            slug="efficient-train",
            title="EfficientTrain: Exploring Generalized Curriculum Learning for Training Visual Backbones",
            authors="Wang, Yue, Lu, Liu, Zhong, Song, Huang",
            year=2023,
            family="training",
            needs="an encoder of images of any size, labelled images",
            gives="a classifier in less time",
            target="selfstudy.methods.training.efficient_train:EfficientTrain",
            model="resnet",
            task="digits?labels=1000",
        ),
        Entry(
            slug="learning-curves",
            title="Modelling of learning curves with applications to POS tagging",
            authors="Vilares Ferro, Darriba Bilbao, Ribadas Pena",
            year=2017,
            family="training",
            needs="a learner, labelled data",
            gives="a model trained on as much as is worth it, the accuracy that more data would bring",
            target="selfstudy.methods.training.learning_curves:LearningCurves",
            model="perceptron-tagger",
            task="made-tags",
        ),
        Entry(
            slug="algoperf",
            title="Benchmarking Neural Network Training Algorithms",
            authors="Dahl, Schneider, Nado, Agarwal, and others",
            year=2023,
            family="training",
            needs="an encoder, labelled images or texts, training algorithms",
            gives="the algorithm that reaches the target first, a classifier trained by it",
            target="selfstudy.methods.training.algoperf:Algoperf",
            model="mlp",
            task="digits?labels=1000",
        ),
        Entry(
            slug="ps-kd",
            title="Self-Knowledge Distillation with Progressive Refinement of Targets",
            authors="Kim, Ji, Yoon, Hwang",
            year=2021,
            family="distillation",
            needs="an encoder, images labelled by class (for numbers there is guided-self-distillation)",
            gives="a classifier that is better calibrated",
            target="selfstudy.methods.distillation.ps_kd:PsKd",
            model="mlp",
            task="digits?labels=1000",
        ),
        Entry(
            slug="guided-self-distillation",
            title="Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by "
            "Self-Distillation",
            authors="Borup, Andersen",
            year=2021,
            family="distillation",
            needs="a labelled table with the model kernel, or labelled images with an encoder",
            gives="a fit distilled from itself, the weight of the labels",
            target="selfstudy.methods.distillation.guided_self_distillation:GuidedSelfDistillation",
            model="mlp",
            task="digits?labels=1000",
        ),
        Entry(
            slug="pruning-distillation",
            title="Distilling the Knowledge in Data Pruning",
            authors="Ben-Baruch, Botach, Kviatkovsky, Aggarwal, Medioni",
            year=2024,
            family="distillation",
            needs="an encoder, labelled images",
            gives="a classifier trained on a part of the images, which part",
            target="selfstudy.methods.distillation.pruning_distillation:PruningDistillation",
            model="mlp",
            task="digits?labels=1000",
        ),
        Entry(
            slug="self-distilled-pretraining",
            title="Self-Distillation for Further Pre-training of Transformers",
            authors="Lee, Kang, Lee, Hwang, Kawaguchi",
            year=2023,
            family="pretraining",
            needs="a pre-trained transformer, inputs without labels",
            gives="an encoder at home in the new domain",
            target="selfstudy.methods.pretraining.self_distilled_pretraining:SelfDistilledPretraining",
            model="mae",
            task="digits",
        ),
    )
}


def find(slug: str) -> Entry:
    """Return the entry named `slug`.

    Raises:
        UsageError: there is none; suggests the nearest name.
    """
    if slug not in METHODS:
        raise UsageError(f"Unknown method {slug!r}. {nearest(slug, METHODS)}")
    return METHODS[slug]
