/**
 * Cases from other people's test suites as facts of our own: set-up, action, expected. A case is data; `play.ts` puts it through
 * an IOMMU, ours or QEMU's, and tells what was seen otherwise.
 *
 * Expected is what the source expects. Where the specification or a judge says otherwise the step stays, and says what that judge
 * sees instead and why; then exactly that must be seen.
 */
import type { OracleArch } from '../program.ts';

/** Who a case is put through: our model, which follows the specification, or QEMU's. */
export type Judge = 'model' | 'qemu';

/** What one judge sees otherwise than the source expects, by the name of the value, and why. */
export interface Otherwise {
  readonly sees: Readonly<Record<string, number>>;
  readonly why: string;
}

/** A step that expects something. */
interface Expectation {
  readonly model?: Otherwise;
  readonly qemu?: Otherwise;
}

export type Rights = 'rw' | 'r' | 'w' | '';

/** A VT-d context entry; the root entry of its bus is made with it. */
export interface ContextStep {
  readonly do: 'context';
  readonly device: number;
  readonly did?: number;
  readonly levels?: number;
  /** Which tables of the case; 'software' are those that `map` writes. */
  readonly top?: number | 'software';
  /** Translation type; 0 by tables, 2 pass-through. */
  readonly type?: number;
  readonly fpd?: boolean;
  readonly present?: boolean;
  /** Further bits of words 0 and 2. */
  readonly w0?: number;
  readonly w2?: number;
}

/** An AMD device table entry. */
export interface DeviceStep {
  readonly do: 'device';
  readonly device: number;
  readonly domain?: number;
  readonly levels?: number;
  readonly top?: number | 'software';
  readonly rights?: Rights;
  readonly valid?: boolean;
  readonly translates?: boolean;
  /** Further bits of words 0, 1 and 3. */
  readonly w0?: number;
  readonly w1?: number;
  readonly w3?: number;
}

/**
 * An entry that maps a page, and the tables above it where they are missing. `lg2` of the page's size picks the level; an AMD
 * size between two levels is written as its replicas.
 */
export interface PageStep {
  readonly do: 'page';
  readonly iova: number;
  readonly paddr: number;
  readonly top?: number;
  readonly levels?: number;
  readonly lg2?: number;
  readonly rights?: Rights;
  /** Rights of the tables above. */
  readonly above?: Rights;
  /** Further bits of the entry. */
  readonly lo?: number;
  readonly hi?: number;
  /** AMD: leave the tables between the top and the last one out. */
  readonly skips?: boolean;
}

/** One raw entry of the table that serves an address at a level. */
export interface EntryStep {
  readonly do: 'entry';
  readonly iova: number;
  readonly level: number;
  readonly top?: number;
  readonly levels?: number;
  readonly lo: number;
  readonly hi: number;
}

/** What happens: set-up and actions. Register offsets are the unit's. */
export type Action =
  | ContextStep
  | DeviceStep
  | PageStep
  | EntryStep
  | { readonly do: 'writel'; readonly offset: number; readonly value: number }
  | { readonly do: 'writeq'; readonly offset: number; readonly lo: number; readonly hi: number }
  /** Tables, queue (AMD: and log) and translation on, as far as asked. Default everything. */
  | { readonly do: 'on'; readonly queue?: boolean; readonly translation?: boolean; readonly control?: number }
  /** Commands of four words behind the tail, and the doorbell. */
  | { readonly do: 'queue'; readonly commands: readonly (readonly number[])[] }
  /** An empty table for software's writer. */
  | { readonly do: 'writer'; readonly levels: number };

/** One word at a device's address: whether it gets to (a read: comes from) the physical address `at`. */
export interface DmaStep extends Expectation {
  readonly see: 'dma';
  readonly access: 'read' | 'write';
  readonly device?: number;
  readonly iova: number;
  readonly at: number;
  readonly arrives: boolean;
}

/** A longer DMA, part by part: each part lies in one page. */
export interface BlockStep extends Expectation {
  readonly see: 'block';
  readonly access: 'read' | 'write';
  readonly device?: number;
  readonly iova: number;
  readonly parts: readonly { readonly nrBytes: number; readonly at: number; readonly arrives: boolean }[];
}

/** The fault that was recorded since one was looked for last: VT-d's record, which is then cleared, or AMD's event. */
export interface RecordStep extends Expectation {
  readonly see: 'record';
  /** Fault reason, or event code. */
  readonly reason: number;
  readonly device?: number;
  /** Device id as it is, where it is none of a device here. */
  readonly sid?: number;
  readonly address: number;
  readonly access: 'read' | 'write';
  /** AMD: domain and flags, when the source says them. */
  readonly domain?: number;
  readonly flags?: number;
}

/** Every page of a range (of a large one a sample): whether it gets to its place from `at` on. */
export interface SpanStep extends Expectation {
  readonly see: 'span';
  readonly device?: number;
  readonly iova: number;
  readonly at: number;
  readonly nrBytes: number;
  readonly arrives: boolean;
}

/** Software's own table writer (src/pt): what it answers, and what it leaves in memory. */
export type WriterSight =
  | (Expectation & {
      readonly see: 'map';
      readonly iova: number;
      readonly paddr: number;
      readonly nrBytes: number;
      readonly errno: number;
    })
  | (Expectation & {
      readonly see: 'unmap';
      readonly iova: number;
      readonly nrBytes: number;
      readonly unmapped: number;
    })
  /** All leaves that stand in the table, by log2 of their size. */
  | (Expectation & { readonly see: 'leaves'; readonly nr: Readonly<Record<number, number>> });

export type Sight =
  | WriterSight
  | SpanStep
  | DmaStep
  | BlockStep
  | RecordStep
  /** No fault since one was looked for last. */
  | (Expectation & { readonly see: 'no-record' })
  | (Expectation & {
      readonly see: 'register';
      readonly name: string;
      readonly offset: number;
      readonly mask: number;
      readonly value: number;
    })
  | (Expectation & { readonly see: 'word'; readonly name: string; readonly paddr: number; readonly value: number });

export type CaseStep = Action | Sight;

/** One case. */
export interface ConformanceCase {
  /** Name of the source's test. */
  readonly test: string;
  /** What it says, in our words. */
  readonly title: string;
  readonly arch: OracleArch;
  readonly steps: readonly CaseStep[];
}

/** The cases of one source. */
export interface CaseGroup {
  readonly id: string;
  readonly title: string;
  /** File that the tests are in, at which state. */
  readonly file: string;
  readonly cases: readonly ConformanceCase[];
  /** Tests of the source that are no case here, and why. */
  readonly leftOut: readonly { readonly tests: readonly string[]; readonly why: string }[];
}

/** Whether a step expects something. */
export function isSight(step: CaseStep): step is Sight {
  return 'see' in step;
}
