/**
 * The search for a schedule that breaks a promise. It covers every schedule of hardware decisions at every step of a driver, up
 * to states that were seen before.
 *
 * What a driver does depends on the hardware only through what it reads. So one run of the driver carries, from step to step,
 * the set of all states that the hardware can be in (`DriverRun`): each decision leads from one state to another, equal ones
 * are one. Where the states of a set would give the driver different answers, the set is parted: the run goes on with one
 * part, the others become forks, for which the scenario is run again from the start with the answers so far given from a
 * script. Forks that lead to where the search has been before end at once.
 *
 * Each state remembers the fewest decisions that lead to it, so the schedule found is a shortest one.
 *
 * Two things are taken for granted: until its next store, register write or return a driver may act on what it has read, after
 * that only its position counts; and drivers do not count how often they waited.
 */
import type { ContractId } from '../judge.ts';
import type { Decision } from './decision.ts';
import type { Probe } from './promised.ts';
import { HardwareStates } from './view.ts';

/** A state that breaks a promise. */
export interface Violation {
  readonly contract: ContractId;
  /** Name of the call that ended, or of the last one before. */
  readonly call: string;
  readonly node: number;
  /** Events until then. */
  readonly step: number;
  readonly cost: number;
  readonly choices: readonly number[];
  /** Null for a freed table, whose frame is then in `pfn`. */
  readonly probe: Probe | null;
  readonly pfn: number;
}

/** A set of states that waits for a run of its own. */
export interface Fork {
  readonly script: readonly number[];
  /** Choices of order among the script's answers. */
  readonly choices: readonly number[];
  readonly nodes: readonly number[];
  /** Of the step before whose event the nodes stand. */
  readonly position: number;
  readonly cost: number;
}

export interface Step {
  /** Events of the driver before it. */
  readonly after: number;
  readonly decision: Decision;
}

const NONE = -1;

export class Search {
  readonly hardware: HardwareStates = new HardwareStates();
  /** Decisions by their number in nodes. */
  readonly decisions: Decision[] = [];
  readonly #decisionIds = new Map<string, number>();
  // A node is a state at a step with the way that led there: by column.
  #stateOf: Int32Array = new Int32Array(1 << 12);
  #parentOf: Int32Array = new Int32Array(1 << 12);
  #decisionOf: Int32Array = new Int32Array(1 << 12);
  #stepOf: Int32Array = new Int32Array(1 << 12);
  #costOf: Int32Array = new Int32Array(1 << 12);
  #nrNodes = 0;
  /** Fewest decisions to a state that was followed from a position. */
  readonly #followed = new Map<number, Map<number, number>>();
  readonly #forks: Fork[] = [];
  readonly violations: Map<ContractId, Violation> = new Map();
  /** Decisions tried; each makes a schedule out of the one before it. */
  nrSchedules = 0;
  nrRuns = 0;
  /** A cache was full: hardware with a larger one could do more. */
  wasFull = false;
  readonly reached: Set<string> = new Set();
  readonly #most: number;
  readonly #wantsAll: boolean;

  /** @param most schedules to try. @param wantsAll go on behind a finding, for contracts that only longer schedules break */
  constructor(most: number, wantsAll: boolean) {
    this.#most = most;
    this.#wantsAll = wantsAll;
  }

  get isOver(): boolean {
    return this.nrSchedules >= this.#most;
  }

  get nrForks(): number {
    return this.#forks.length;
  }

  /** Longer schedules than this are of no use any more. */
  get costLimit(): number {
    let limit = Infinity;
    if (this.#wantsAll) return limit;
    for (const { cost } of this.violations.values()) limit = Math.min(limit, cost);
    return limit;
  }

  node(state: number, parent: number, decision: number, step: number, cost: number): number {
    const node = this.#nrNodes++;
    if (node === this.#stateOf.length) {
      this.#stateOf = doubled(this.#stateOf);
      this.#parentOf = doubled(this.#parentOf);
      this.#decisionOf = doubled(this.#decisionOf);
      this.#stepOf = doubled(this.#stepOf);
      this.#costOf = doubled(this.#costOf);
    }
    this.#stateOf[node] = state;
    this.#parentOf[node] = parent;
    this.#decisionOf[node] = decision;
    this.#stepOf[node] = step;
    this.#costOf[node] = cost;
    return node;
  }

  root(state: number): number {
    return this.node(state, NONE, NONE, 0, 0);
  }

  stateOf(node: number): number {
    return this.#stateOf[node];
  }

  costOf(node: number): number {
    return this.#costOf[node];
  }

  /** A node for a state that an event of the driver made of another. */
  moved(node: number, state: number, step: number, extraCost: number = 0): number {
    if (state === this.#stateOf[node] && extraCost === 0) return node;
    return this.node(state, node, NONE, step, this.#costOf[node] + extraCost);
  }

  decisionId(decision: Decision): number {
    const text = JSON.stringify(decision);
    let id = this.#decisionIds.get(text);
    if (id === undefined) {
      id = this.decisions.length;
      this.decisions.push(decision);
      this.#decisionIds.set(text, id);
    }
    return id;
  }

  /** Fewest decisions to the states that were followed from a position. */
  followedAt(position: number): Map<number, number> {
    let found = this.#followed.get(position);
    if (found === undefined) {
      found = new Map();
      this.#followed.set(position, found);
    }
    return found;
  }

  /** The nodes that nobody followed from a position yet. */
  newAt(position: number, nodes: readonly number[]): number[] {
    const known = this.followedAt(position);
    const limit = this.costLimit;
    return nodes.filter((node) => {
      const cost = this.#costOf[node];
      return cost <= limit && (known.get(this.#stateOf[node]) ?? Infinity) > cost;
    });
  }

  addFork(fork: Fork): void {
    this.#forks.push(fork);
  }

  /** The fork to run next: one that the fewest decisions lead to. Those that lead nowhere new are thrown away. */
  takeFork(): Fork | undefined {
    while (this.#forks.length > 0) {
      let best = 0;
      for (let i = 1; i < this.#forks.length; i++) if (this.#forks[i].cost < this.#forks[best].cost) best = i;
      const [fork] = this.#forks.splice(best, 1);
      const nodes = this.newAt(fork.position, fork.nodes);
      if (nodes.length > 0) return { ...fork, nodes };
    }
    return undefined;
  }

  /** A broken promise: kept when no shorter schedule breaks the same. */
  found(violation: Violation): void {
    const before = this.violations.get(violation.contract);
    if (before === undefined || violation.cost < before.cost) this.violations.set(violation.contract, violation);
  }

  /** The decisions on the way to a node, first one first. */
  pathTo(node: number): Step[] {
    const steps: Step[] = [];
    for (let at = node; at !== NONE; at = this.#parentOf[at]) {
      if (this.#decisionOf[at] !== NONE)
        steps.push({ after: this.#stepOf[at], decision: this.decisions[this.#decisionOf[at]] });
    }
    return steps.reverse();
  }
}

function doubled(array: Int32Array): Int32Array {
  const larger = new Int32Array(array.length * 2);
  larger.set(array);
  return larger;
}
