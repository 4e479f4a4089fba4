/**
 * A machine at one moment, as plain data: what a page, a report or a file can show without the machine. Addresses are
 * numbers (all below 2^53), 64-bit words are hexadecimal strings.
 */
import type { Arch } from '../check/index.ts';
import type { CacheName } from '../hw/index.ts';

/** What is looked at: the walk of one page for one device. */
export interface Focus {
  /** Requester id: bus << 8 | device << 3 | function. */
  readonly sid: number;
  /** A byte address; the page it lies in is meant. */
  readonly iova: number;
}

/** One bit or field of an entry, a descriptor or a record. */
export interface Field {
  /** As its specification names it. */
  readonly name: string;
  /** Bit positions within the whole entry: `0`, `51:12`. */
  readonly bits: string;
  /** A number in hexadecimal, or `0` and `1`. */
  readonly value: string;
  /** What that value means, in a few words. */
  readonly text: string;
}

/** What hardware makes of a table entry. */
export type EntryKind = 'table' | 'page' | 'pass' | 'not-present' | 'malformed' | 'no-memory';

/** One entry on the way from a device to its page, as memory shows it to the unit. */
export interface EntryView {
  /** `root entry`, `context entry`, `device table entry`, `level 4 entry`. */
  readonly name: string;
  /** 0 for entries of devices, else the level of the table it lies in: 1 holds 4 KiB pages. */
  readonly level: number;
  readonly kind: EntryKind;
  /** First byte of the table, index of the entry in it, first byte of the entry. */
  readonly table: number;
  readonly index: number;
  readonly paddr: number;
  /** 64-bit words, lowest address first. */
  readonly words: readonly string[];
  readonly fields: readonly Field[];
  /** What it does, in one line. */
  readonly text: string;
  /** First byte of the table or page it leads to, -1 for none. */
  readonly target: number;
  /** Words that a CPU has stored and the unit cannot see yet (tables that are not snooped); null when there are none. */
  readonly unseen: readonly string[] | null;
}

/** Where an access would end. `paddr` is -1 when it is blocked. */
export interface Answer {
  readonly paddr: number;
  readonly read: boolean;
  readonly write: boolean;
}

/** The walk of the chosen page, by memory alone: no cache is asked. */
export interface WalkView {
  readonly entries: readonly EntryView[];
  readonly answer: Answer;
  /** Id that the device's entry names: the tag of what is cached for it. -1 when it names none. */
  readonly domain: number;
}

/** One entry of a cache of the unit. */
export interface CachedView {
  /** Its place, as `evict` counts. */
  readonly nth: number;
  /** `device 00:02.0`, `domain 2, 0x40000000+0x1000`. */
  readonly key: string;
  /** What it says. */
  readonly text: string;
  /** The chosen walk would use it. */
  readonly isUsed: boolean;
  /** It says that nothing is there, or that there is a fault. */
  readonly isNothing: boolean;
  /** Whether memory says the same: `stale` when it does not, `unknown` when no device uses that domain now. */
  readonly state: 'current' | 'stale' | 'unknown';
  /** Of a translation or a copy of an entry: first byte of what it leads to, -1 for nothing. */
  readonly target: number;
  /** Level of the table entry; 0 for entries of devices. */
  readonly level: number;
  /** First byte of the addresses it is about; 0 for entries of devices. */
  readonly iova: number;
}

export interface CacheView {
  readonly cache: CacheName;
  /** As the architecture calls it: `IOTLB`, `context cache`, `paging-structure cache`. */
  readonly name: string;
  readonly entries: readonly CachedView[];
}

/** An invalidation command or a wait. */
export interface CommandView {
  readonly name: string;
  readonly words: readonly string[];
  readonly fields: readonly Field[];
  /** In one line. */
  readonly text: string;
  readonly isWait: boolean;
}

export interface QueuedView extends CommandView {
  readonly index: number;
  readonly state: 'done' | 'waiting';
}

/** The ring in memory through which software asks for invalidations. */
export interface QueueView {
  readonly name: string;
  /** First byte, number of entries; indexes of the next entry that hardware will read and that software will write. */
  readonly base: number;
  readonly size: number;
  readonly head: number;
  readonly tail: number;
  /** The last ones, oldest first. */
  readonly entries: readonly QueuedView[];
}

/** One record of the fault log. */
export interface FaultView {
  readonly sid: number;
  readonly device: string;
  readonly iova: number;
  readonly access: 'read' | 'write';
  /** Fault reason or event code, and its name. */
  readonly code: number;
  readonly name: string;
  /** In words. */
  readonly text: string;
}

/** Everything of a machine that a walk depends on. */
export interface MachineView {
  readonly arch: Arch;
  readonly focus: Focus;
  /** The unit may cache what is not present (CAP.CM, NpCache). */
  readonly npCache: boolean;
  readonly walk: WalkView;
  readonly caches: readonly CacheView[];
  /** Null on units that are programmed by registers only. */
  readonly queue: QueueView | null;
  readonly faults: readonly FaultView[];
  /** The log was full and lost faults. */
  readonly lostFaults: boolean;
  /** What this unit would answer now: its caches first, then memory. Asking changes nothing. */
  readonly now: Answer;
}
