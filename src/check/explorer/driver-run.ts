/** One run of a scenario's driver under a search: carries the set of states from step to step (see search.ts). */
import { PAGE_SIZE } from '../../base/index.ts';
import type { Machine } from '../../machine/index.ts';
import type { Platform } from '../../mem/index.ts';
import type { Breach, ContractId, Judge } from '../judge.ts';
import type { Promises } from '../promises.ts';
import { CACHES, decide } from './decision.ts';
import { CALL, CHOICE, FLUSH, FREE, Position, RETURN, STORE, WRITE } from './position.ts';
import type { Expected, Probe } from './promised.ts';
import { askFor, Promised } from './promised.ts';
import type { Fork, Search } from './search.ts';
import type { Target } from './target.ts';
import { FRAME_WORDS, RunOver, STUCK_NS, Tap } from './tap.ts';
import { firstFrames, unitOf, workAll } from './units.ts';
import type { Unit } from './units.ts';
import { CACHE_ENTRIES, HardwareView } from './view.ts';

/** Of tables on both architectures; they have 512 entries each. */
const MOST_LEVELS = 6;

export class DriverRun extends Tap implements Judge {
  readonly findings: readonly Breach[] = [];
  readonly #search: Search;
  readonly #target: Target;
  readonly #fork: Fork | null;
  #machine!: Machine;
  #unit!: Unit;
  #view!: HardwareView;
  #promised!: Promised;
  #position: Position = new Position();
  #nodes: readonly number[] = [];
  #isLive = false;
  #step = 0;
  #call = 'start';
  readonly #given: number[] = [];
  readonly #choices: number[] = [];
  /** States were parted by what the driver read: those where work waits have not been followed through its being done. */
  #isOpen = false;
  /** Memory before the last store. */
  #shadow: Int32Array = new Int32Array(0);
  /** Where each state leads by each decision, while memory stays as it is: pairs of decision and state. */
  #successors = new Map<number, readonly number[]>();
  readonly #walks: readonly number[];
  /** Places in tables, of any level, that the walks read. */
  readonly #entries: readonly number[];
  readonly #evictions: readonly (readonly number[])[];

  constructor(search: Search, target: Target, fork: Fork | null) {
    super();
    this.#search = search;
    this.#target = target;
    this.#fork = fork;
    const walk = (sid: number, iova: number, kept: boolean): number =>
      search.decisionId({ do: 'walk', sid, iova, kept });
    this.#walks = target.sids.flatMap((sid) => [
      ...target.pages.map((iova) => walk(sid, iova, true)),
      ...target.beside.map((iova) => walk(sid, iova, false)),
    ]);
    const entries = new Set<number>();
    for (const iova of [...target.pages, ...target.beside]) {
      for (let level = 1; level <= MOST_LEVELS; level++) {
        entries.add(Math.floor(iova / (PAGE_SIZE * 512 ** (level - 1))) % 512);
      }
    }
    this.#entries = [...entries];
    this.#evictions = CACHES.map((cache) =>
      Array.from({ length: CACHE_ENTRIES }, (_, nth) => search.decisionId({ do: 'evict', cache, nth })),
    );
  }

  platform(inner: Platform): Platform {
    return this.attach(inner);
  }

  watch(): void {}

  started(machine: Machine, promises: Promises): void {
    this.#machine = machine;
    this.#unit = unitOf(machine);
    this.#promised = new Promised(promises);
    const { mem } = machine;
    // What the start of the machine left in CPU caches has long reached memory.
    if (!mem.coherent) mem.deviceWords.set(mem.words);
    this.#shadow = mem.words.slice();
    this.#view = new HardwareView(this.#search.hardware, this.#unit, mem);
    const root = this.#view.first();
    if (root !== 0) throw new Error('two runs of the scenario started in different states: it is not deterministic');
    this.active = true;
    if (this.#fork === null) {
      this.#nodes = [this.#search.root(root)];
      this.#isLive = true;
      this.#close();
    }
  }

  call<T>(name: string, body: () => T): T {
    this.#reopen();
    this.#call = name;
    this.#position.named(CALL, name, 0);
    this.#step += 1;
    const result = body();
    this.#reopen();
    this.#position.named(RETURN, name, typeof result === 'number' ? result : 0);
    this.#promised.callEnds(this.#target.pages);
    if (this.#isLive) this.#probe();
    this.#step += 1;
    return result;
  }

  /** One of `nr` orders in which things may happen next; the first is nothing special. */
  choose(nr: number): number {
    this.#reopen();
    this.#step += 1;
    let choice = 0;
    if (this.#isLive) {
      for (let other = 1; other < nr; other++) {
        const position = this.#position.clone();
        position.did(CHOICE, other, nr);
        const nodes = this.#nodes.map((node) => this.#search.moved(node, this.#search.stateOf(node), this.#step, 1));
        this.#addFork(other, nodes, position, [...this.#choices, other]);
      }
      this.#given.push(choice);
    } else choice = this.#scripted();
    this.#did(CHOICE, choice, nr);
    this.#choices.push(choice);
    return choice;
  }

  /** Cheapest schedule to where the run is, for what went wrong in the scenario itself. */
  cheapest(): { node: number; step: number; choices: readonly number[]; call: string } | null {
    if (this.#nodes.length === 0) return null;
    const costOf = (node: number): number => this.#search.costOf(node);
    const node = this.#nodes.reduce((best, each) => (costOf(each) < costOf(best) ? each : best));
    return { node, step: this.#step, choices: [...this.#choices], call: this.#call };
  }

  protected override onStore(wordIndex: number, nrWords: number): void {
    const { mem } = this;
    if (this.#shadow.length !== mem.words.length) this.#growShadow();
    if (this.#isOpen) {
      // Not in this order: memory has changed already.
      this.#swap(wordIndex, nrWords);
      this.#reopen();
      this.#swap(wordIndex, nrWords);
    }
    this.#shadow.set(mem.words.subarray(wordIndex, wordIndex + nrWords), wordIndex);
    this.#did(STORE, wordIndex, nrWords);
    this.#step += 1;
    let before: Int32Array | null = null;
    if (!mem.coherent) {
      // A page is filled by the allocator, which flushes it at once: of that no step is made.
      if (nrWords < FRAME_WORDS) before = mem.deviceWords.slice(wordIndex, wordIndex + nrWords);
      mem.deviceWords.set(mem.words.subarray(wordIndex, wordIndex + nrWords), wordIndex);
    }
    if (!this.#isLive) return;
    this.#move((state) => this.#view.afterStore(state, wordIndex, nrWords, before));
    if (this.#isWalked(wordIndex, nrWords)) this.#memoryChanged();
  }

  protected override onFlush(paddr: number, nrBytes: number): void {
    this.#reopen();
    this.#did(FLUSH, paddr, nrBytes);
    this.#step += 1;
    if (!this.#isLive) return;
    const first = paddr - (paddr % 64);
    const end = Math.ceil((paddr + nrBytes) / 64) * 64;
    const index = this.mem.indexOf(first);
    const before = this.#nodes;
    this.#move((state) => this.#view.afterFlush(state, index, index + (end - first) / 4));
    if (this.#nodes.some((node, i) => node !== before[i])) this.#close();
  }

  protected override onWrite(paddr: number, lo: number, hi: number, isWide: boolean): void {
    this.#reopen();
    this.#did(WRITE, paddr, lo);
    this.#step += 1;
    if (!this.#isLive) return;
    this.#move((state) => {
      this.#view.load(state);
      this.write(paddr, lo, hi, isWide);
      return this.#view.save();
    });
    this.#close();
  }

  protected override onRead(paddr: number): number {
    this.#turn(paddr);
    this.#step += 1;
    if (!this.#isLive) return this.#scriptedRead(paddr);
    const answers = this.#nodes.map((node) => {
      this.#view.load(this.#search.stateOf(node));
      return this.inner.readl(paddr);
    });
    this.#view.drop();
    return this.#part(paddr, answers);
  }

  protected override onLoad(paddr: number): number {
    this.#turn(paddr);
    this.#step += 1;
    if (!this.#isLive) return this.#scriptedRead(paddr);
    const index = this.mem.indexOf(paddr);
    return this.#part(
      paddr,
      this.#nodes.map((node) => this.#view.loaded(this.#search.stateOf(node), index)),
    );
  }

  /** Whatever waits is done in this time at the latest: that it stays undone leads back to where the driver was before. */
  protected override onRelax(): void {
    this.#step += 1;
    let worked = 0;
    if (this.#isLive) {
      const answers: number[] = [];
      this.#move((state) => {
        this.#view.load(state);
        answers.push(workAll(this.#unit));
        return this.#view.save();
      });
      worked = this.#choosePart(answers, (position, answer) => position.waited(answer));
    } else worked = this.#scripted();
    this.#position.waited(worked);
    if (worked === 0) this.#machine.clock.advanceBy(STUCK_NS);
    if (this.#isLive) this.#close();
  }

  /** Who reads a word again before he did anything waits for it, with or without saying so. */
  #turn(paddr: number): void {
    if (this.#position.hasRead(paddr)) this.onRelax();
  }

  #reopen(): void {
    if (this.#isOpen) this.#close();
  }

  #growShadow(): void {
    const larger = new Int32Array(this.mem.words.length);
    larger.set(this.#shadow);
    this.#shadow = larger;
  }

  /** Exchanges words of memory with what they were before the last store. */
  #swap(index: number, nr: number): void {
    const { words } = this.mem;
    for (let word = index; word < index + nr; word++) {
      const value = words[word];
      words[word] = this.#shadow[word];
      this.#shadow[word] = value;
    }
  }

  protected override onFree(pfn: number): void {
    this.#reopen();
    this.#did(FREE, pfn, 0);
    this.#step += 1;
    if (!this.#isLive) return;
    const { hardware } = this.#search;
    if (!hardware.allTables.has(pfn)) return;
    for (const node of this.#nodes) {
      if (hardware.tables[this.#search.stateOf(node)].includes(pfn)) {
        this.#found('C-TABLE-LIVE', node, null, pfn);
      }
    }
  }

  #did(what: number, x: number, y: number): void {
    this.#position.did(what, x, y);
  }

  #move(event: (state: number) => number): void {
    const search = this.#search;
    const moved = new Map<number, number>();
    const nodes: number[] = [];
    for (const node of this.#nodes) {
      const from = search.stateOf(node);
      let to = moved.get(from);
      if (to === undefined) {
        to = event(from);
        moved.set(from, to);
      }
      nodes.push(search.moved(node, to, this.#step));
    }
    this.#nodes = nodes;
  }

  /** Whether a walk of this search can read any of these words of a frame. */
  #isWalked(wordIndex: number, nrWords: number): boolean {
    const pfn = this.mem.frameOfSlot(wordIndex >>> 10);
    if (this.#search.hardware.allTables.has(pfn)) {
      const first = (wordIndex & 1023) >>> 1;
      const last = first + ((nrWords - 1) >>> 1);
      if (this.#entries.some((entry) => entry >= first && entry <= last)) return true;
    }
    return this.#target.sids.some((sid) => firstFrames(this.#unit, this.mem, sid).includes(pfn));
  }

  #memoryChanged(): void {
    this.#successors = new Map();
    this.#close();
  }

  /** Adds all states that decisions lead to, by as few of them as possible. */
  #close(): void {
    this.#isOpen = false;
    const search = this.#search;
    if (search.isOver) throw new RunOver();
    const followed = search.followedAt(this.#position.key);
    const limit = search.costLimit;
    const nodeOf = new Map<number, number>();
    const byCost: number[][] = [];
    const add = (node: number): void => {
      const cost = search.costOf(node);
      const state = search.stateOf(node);
      if (cost > limit || (followed.get(state) ?? Infinity) <= cost) return;
      followed.set(state, cost);
      nodeOf.set(state, node);
      (byCost[cost] ??= []).push(node);
    };
    for (const node of this.#nodes) add(node);
    for (let cost = 0; cost < byCost.length; cost++) {
      // The list may be a hole, and none is added to while it is gone through.
      for (const node of byCost[cost] ?? []) {
        const state = search.stateOf(node);
        if (nodeOf.get(state) !== node) continue;
        const successors = this.#successorsOf(state);
        for (let i = 0; i < successors.length; i += 2) {
          const next = successors[i + 1];
          if (cost + 1 > limit || (followed.get(next) ?? Infinity) <= cost + 1) continue;
          add(search.node(next, node, successors[i], this.#step, cost + 1));
        }
      }
      if (search.isOver) throw new RunOver();
    }
    this.#nodes = [...nodeOf.values()];
    if (this.#nodes.length === 0) throw new RunOver();
  }

  #successorsOf(state: number): readonly number[] {
    const known = this.#successors.get(state);
    if (known !== undefined) return known;
    const search = this.#search;
    const unit = this.#unit;
    const found: number[] = [];
    const attempt = (id: number): void => {
      this.#view.load(state);
      decide(unit, this.mem, this.flushLines, search.decisions[id]);
      const next = this.#view.save();
      search.nrSchedules += 1;
      if (next !== state) found.push(id, next);
    };
    for (const id of this.#walks) attempt(id);
    this.#view.load(state);
    const work = unit.waitingWork();
    const held = CACHES.map((cache) => unit.nrCached(cache));
    if (held.includes(CACHE_ENTRIES)) search.wasFull = true;
    for (let slot = 0; slot < 3; slot++) {
      if ((work & (1 << slot)) !== 0) attempt(search.decisionId({ do: 'execute', slot }));
    }
    held.forEach((nr, cache) => {
      for (let nth = 0; nth < nr; nth++) attempt(this.#evictions[cache][nth]);
    });
    if (!this.mem.coherent) for (const id of this.#writeBacks(state)) attempt(id);
    this.#successors.set(state, found);
    return found;
  }

  /** Of lines that walks read. */
  #writeBacks(state: number): number[] {
    const lines = new Set<number>();
    for (const index of this.#view.lateWords(state)) {
      if (this.#isWalked(index & ~15, 16)) lines.add(this.mem.paddrOfIndex(index & ~15));
    }
    return [...lines].map((paddr) => this.#search.decisionId({ do: 'write-back', paddr }));
  }

  /** Parts the set by what the driver reads at an address. */
  #part(paddr: number, answers: readonly number[]): number {
    const answer = this.#choosePart(answers, (position, each) => position.read(paddr, each));
    this.#position.read(paddr, answer);
    if (this.#search.newAt(this.#position.key, this.#nodes).length === 0) throw new RunOver();
    return answer;
  }

  /** Goes on with the part that the fewest decisions lead to. */
  #choosePart(answers: readonly number[], enter: (position: Position, answer: number) => void): number {
    const parts = new Map<number, number[]>();
    this.#nodes.forEach((node, i) => {
      const part = parts.get(answers[i]);
      if (part === undefined) parts.set(answers[i], [node]);
      else part.push(node);
    });
    const least = (nodes: readonly number[]): number =>
      nodes.reduce((cost, node) => Math.min(cost, this.#search.costOf(node)), Infinity);
    const [[answer, nodes], ...others] = [...parts].sort((a, b) => least(a[1]) - least(b[1]));
    for (const [other, part] of others) {
      const position = this.#position.clone();
      enter(position, other);
      this.#addFork(other, part, position, [...this.#choices]);
    }
    if (others.length > 0) this.#isOpen = true;
    this.#nodes = nodes;
    this.#given.push(answer);
    return answer;
  }

  #addFork(answer: number, nodes: readonly number[], position: Position, choices: readonly number[]): void {
    const cost = nodes.reduce((least, node) => Math.min(least, this.#search.costOf(node)), Infinity);
    this.#search.addFork({ script: [...this.#given, answer], choices, nodes, position: position.key, cost });
  }

  #scripted(): number {
    const fork = this.#fork;
    if (fork === null) throw new Error('a run without script is live');
    const answer = fork.script[this.#given.length];
    this.#given.push(answer);
    if (this.#given.length === fork.script.length) {
      this.#isLive = true;
      this.#isOpen = true;
      this.#nodes = fork.nodes;
    }
    return answer;
  }

  #scriptedRead(paddr: number): number {
    const answer = this.#scripted();
    this.#position.read(paddr, answer);
    return answer;
  }

  /** A call has returned: asks the unit in every state. */
  #probe(): void {
    const { pages, sids } = this.#target;
    for (const iova of pages) {
      for (const sid of sids) {
        const expected = this.#promised.of(sid, iova);
        if (expected !== null) for (const node of this.#nodes) this.#probeNode(node, sid, iova, expected);
      }
    }
    this.#view.drop();
  }

  #probeNode(node: number, sid: number, iova: number, expected: Expected): void {
    const search = this.#search;
    this.#view.load(search.stateOf(node));
    if (this.#unit.nrCached('iotlb') > 0) search.reached.add('cached');
    if (expected.paddr >= 0) search.reached.add('promised');
    const wrong = askFor(this.#unit, sid, iova, expected);
    if (wrong !== null) this.#found(expected.contract, node, wrong, -1);
    else if (expected.paddr >= 0) search.reached.add('translated');
  }

  #found(contract: ContractId, node: number, probe: Probe | null, pfn: number): void {
    this.#search.found({
      contract,
      call: this.#call,
      node,
      step: this.#step,
      cost: this.#search.costOf(node),
      choices: [...this.#choices],
      probe,
      pfn,
    });
  }
}
