/**
 * A counterexample as a sequence that can be stepped both ways: the lines of `iommukit check --replay`, each with the machine after
 * it, as plain data. Machines of neighbouring steps are mostly alike, so parts that are equal are kept once.
 */
import type { ContractId, Marks, PlayedStep, Schedule, ScheduleWorld, Watcher } from '../check/index.ts';
import { playSchedule, setupText, watchSchedule } from '../check/index.ts';
import type { Machine } from '../machine/index.ts';
import { machineView } from './machine-view.ts';
import type { CacheView, FaultView, Focus, MachineView, QueueView, WalkView } from './view.ts';

export interface SequenceStep {
  /** Who acts. */
  readonly by: PlayedStep['by'];
  readonly text: string;
  /** Index into `machines`: right after the step. -1 of steps beyond `MOST_VIEWS`. */
  readonly machine: number;
}

/** A MachineView whose parts are indexes into the lists of its sequence. */
export interface SequenceMachine extends Omit<MachineView, 'walk' | 'caches' | 'queue' | 'faults' | 'arch' | 'focus'> {
  readonly walk: number;
  readonly caches: readonly number[];
  /** -1 for none. */
  readonly queue: number;
  readonly faults: readonly number[];
}

export interface Sequence {
  readonly scenario: string;
  /** What the scenario is, in one line. */
  readonly title: string;
  /** The machine and its callers, in words. */
  readonly setup: string;
  /** Id of the known bug that the driver has, null for none. */
  readonly driver: string | null;
  /** The promise that the schedule is said to break. */
  readonly contract: ContractId;
  readonly isShown: boolean;
  /** How it is broken; null when it is not. */
  readonly broken: Marks | null;
  /** What the scenario itself complained of; empty for nothing. */
  readonly failure: string;
  readonly steps: readonly SequenceStep[];
  readonly arch: MachineView['arch'];
  readonly focus: Focus;
  readonly machines: readonly SequenceMachine[];
  readonly walks: readonly WalkView[];
  readonly caches: readonly CacheView[];
  readonly queues: readonly QueueView[];
  readonly faults: readonly FaultView[];
}

/** So many steps of a sequence show the machine; a scenario with more is for reading only. */
export const MOST_VIEWS = 4096;

/** Things that are equal as JSON, kept once. */
class Pool<T> {
  readonly items: T[] = [];
  readonly #places = new Map<string, number>();

  add(item: T): number {
    const key = JSON.stringify(item);
    let place = this.#places.get(key);
    if (place === undefined) {
      place = this.items.push(item) - 1;
      this.#places.set(key, place);
    }
    return place;
  }
}

class Camera implements Watcher {
  readonly #focus: Focus;
  readonly walks: Pool<WalkView> = new Pool();
  readonly caches: Pool<CacheView> = new Pool();
  readonly queues: Pool<QueueView> = new Pool();
  readonly faults: Pool<FaultView> = new Pool();
  readonly machines: Pool<SequenceMachine> = new Pool();
  /** By step. */
  readonly seenAt: number[] = [];

  constructor(focus: Focus) {
    this.#focus = focus;
  }

  broken(): void {}

  seen(machine: Machine, nrTold: number): void {
    // The first look after a line is the machine after that line; what is told in one breath has one machine.
    if (this.seenAt.length >= nrTold || nrTold > MOST_VIEWS) return;
    const { arch: _, focus: __, walk, caches, queue, faults, ...rest } = machineView(machine, this.#focus);
    const place = this.machines.add({
      ...rest,
      walk: this.walks.add(walk),
      caches: caches.map((cache) => this.caches.add(cache)),
      queue: queue === null ? -1 : this.queues.add(queue),
      faults: faults.map((fault) => this.faults.add(fault)),
    });
    while (this.seenAt.length < nrTold) this.seenAt.push(place);
  }
}

/** Plays a schedule. @throws ScheduleError as `playSchedule` */
export function sequenceOf(schedule: Schedule, world: ScheduleWorld): Sequence {
  const { isShown, broken, failure, steps } = playSchedule(schedule, world);
  const [sid = 0] = schedule.target.sids;
  const [iova = 0] = schedule.target.pages;
  const focus = broken === null ? { sid, iova } : { sid: broken.sid, iova: broken.iova };
  const camera = new Camera(focus);
  watchSchedule(schedule, world, camera);
  const { walks, caches, queues, faults, machines, seenAt } = camera;
  const { scenario, driver, contract, setup } = schedule;
  return {
    scenario,
    title: world.scenarios.find(({ name }) => name === scenario)?.title ?? '',
    setup: setupText(setup),
    driver,
    contract,
    isShown,
    broken,
    failure,
    steps: steps.map(({ by, text }, at) => ({ by, text, machine: seenAt[at] ?? -1 })),
    arch: setup.arch,
    focus,
    machines: machines.items,
    walks: walks.items,
    caches: caches.items,
    queues: queues.items,
    faults: faults.items,
  };
}

/** The machine after a step; null where none was kept. */
export function machineAt(sequence: Sequence, step: number): MachineView | null {
  const found = sequence.machines[sequence.steps[step]?.machine ?? -1];
  if (found === undefined) return null;
  const { walks, caches, queues, faults, arch, focus } = sequence;
  return {
    ...found,
    arch,
    focus,
    walk: walks[found.walk],
    caches: found.caches.map((place) => caches[place]),
    queue: found.queue < 0 ? null : queues[found.queue],
    faults: found.faults.map((place) => faults[place]),
  };
}
