"""Slow second implementations of the searches: one problem, objects, recursion; the same random draws."""

from __future__ import annotations

import math

import numpy as np

from selfstudy.core.random import derive, uniforms

SELECT, EXPAND, LOOK, ROLL = range(4)


class Node:
    def __init__(self, state, value, parent=None, index=0):
        self.state, self.prior, self.value, self.parent, self.index = state, value, value, parent, index
        self.visits, self.children, self.end = 0, [], False

    def child(self, action, value, index):
        problem, path = self.state
        node = Node((problem, (*path, action)), value, self, index)
        self.children.append(node)
        return node


class Mcts:
    def __init__(self, domain, problem, settings, key, collect):
        self.domain, self.settings, self.key, self.collect = domain, settings, key, collect
        self.root = Node((problem, ()), settings.low)
        self.nodes, self.answer = [self.root], None
        for self.iteration in range(settings.iterations):
            if self.step():
                break

    def stream(self, purpose):
        return derive(self.key, self.iteration * 4 + purpose)

    def value(self, state):
        s = self.settings
        return min(max(float(self.domain.values([state])[0]), s.low), s.high)

    def critic(self, node):
        if not node.end and node.parent is not None:
            node.end = bool(self.domain.ended([node.state])[0])
        return node.end

    def score(self, node):
        s = self.settings
        if node.visits == 0:
            return node.value + s.unvisited
        return node.value + s.exploration * math.sqrt(2 * math.log(node.parent.visits) / node.visits)

    def pick(self, node, purpose):
        best = max(self.score(child) for child in node.children)
        tied = [child for child in node.children if self.score(child) == best]
        return max(tied, key=lambda child: float(uniforms(self.stream(purpose), child.index)))

    def descend(self, node):
        return self.descend(self.pick(node, SELECT)) if node.children else node

    def draw(self, state, n, key):
        return list(dict.fromkeys(self.domain.propose([state], n, np.array([key], dtype=np.uint64))[0]))

    def expand(self, node):
        if self.critic(node):
            return
        actions = self.draw(node.state, self.settings.branch, self.stream(EXPAND))
        node.end = not actions
        for action in actions:
            value = self.value((node.state[0], (*node.state[1], action)))
            self.nodes.append(node.child(action, value, len(self.nodes)))
            if self.collect:
                self.critic(self.nodes[-1])

    def roll(self, state, step, best):
        if step == self.settings.roll_steps:
            return best
        actions = self.draw(state, self.settings.roll_branch, derive(self.stream(ROLL), step))
        if not actions:
            return best
        nexts = [(state[0], (*state[1], action)) for action in actions]
        values = [self.value(state) for state in nexts]
        top = values.index(max(values))
        best = max(best, values[top])
        return best if self.domain.ended([nexts[top]])[0] else self.roll(nexts[top], step + 1, best)

    def simulate(self, node):
        child = self.pick(node, LOOK)
        best = child.value if self.critic(child) else self.roll(child.state, 0, self.settings.low)
        alpha = self.settings.alpha
        child.value = (1 - alpha) * child.value + alpha * best
        child.visits += 1

    def backup(self, node):
        node.visits += 1
        total = weighted = 0.0
        for child in node.children:
            total += child.visits
            weighted += child.visits * child.value
        if total > 0:
            node.value = weighted / total
        if node.parent is not None:
            self.backup(node.parent)

    def step(self):
        node = self.descend(self.root)
        if node.value >= self.settings.end_gate:
            if not self.collect:
                self.answer = node
                return True
            node.end = True
        if not node.end:
            self.expand(node)
        if not node.end:
            self.simulate(node)
        self.backup(node)
        return False


class Thought:
    """Tree of Thoughts of one problem, breadth-first or depth-first."""

    def __init__(self, domain, problem, settings, key, depth_first):
        self.domain, self.settings, self.key = domain, settings, key
        self.root = Node((problem, ()), settings.low)
        self.nodes, self.done, self.answer = [self.root], [], None
        if depth_first:
            self.visit(self.root)
        else:
            self.widen([self.root])
        if self.answer is None:
            rest = self.done or [node for node in self.nodes if not node.children]
            self.answer = max(rest, key=lambda node: (node.value, node.index))

    def extend(self, node):
        key = np.array([derive(self.key, node.index)], dtype=np.uint64)
        actions = list(dict.fromkeys(self.domain.propose([node.state], self.settings.branch, key)[0]))
        for action in actions:
            value = float(self.domain.values([(node.state[0], (*node.state[1], action))])[0])
            self.nodes.append(node.child(action, value, len(self.nodes)))
        return node.children

    def gate(self, children):
        solved = [node for node in children if node.value >= self.settings.end_gate]
        if solved:
            self.answer = max(solved, key=lambda node: (node.value, node.index))
        return bool(solved)

    def best(self, children):
        going = []
        for node in children:
            node.end = bool(self.domain.ended([node.state])[0])
            (self.done if node.end else going).append(node)
        return sorted(going, key=lambda node: (-node.value, node.index))[: self.settings.keep]

    def widen(self, beam, depth=0):
        if beam and depth < self.settings.depth:
            children = [child for node in beam for child in self.extend(node)]
            if not self.gate(children):
                self.widen(self.best(children), depth + 1)

    def visit(self, node, depth=0):
        if depth == self.settings.depth or len(self.nodes) >= self.settings.nodes:
            return False
        children = self.extend(node)
        return self.gate(children) or any(self.visit(child, depth + 1) for child in self.best(children))
