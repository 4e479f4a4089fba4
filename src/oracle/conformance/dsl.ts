/** Short names for the steps that most cases are made of. They make data, nothing else. */
import { TWO_32 } from '../../base/index.ts';
import { vtd } from '../../spec/index.ts';
import type {
  Action,
  BlockStep,
  ContextStep,
  DeviceStep,
  DmaStep,
  EntryStep,
  Otherwise,
  PageStep,
  RecordStep,
  Sight,
} from './case.ts';

/** Where data is: the upper half of QEMU's memory. */
export const DATA: number = 2 ** 27;
export const KIB4: number = 4096;
export const MIB2: number = 2 ** 21;
export const GIB: number = 2 ** 30;

/** What only one judge, or each, sees otherwise. */
export interface Exceptions {
  readonly model?: Otherwise;
  readonly qemu?: Otherwise;
}

type Extra<T> = Partial<Omit<T, 'do' | 'see'>>;

// Set-up.
export const context = (extra: Extra<ContextStep> = {}): Action => ({ do: 'context', device: 0, ...extra });
export const device = (extra: Extra<DeviceStep> = {}): Action => ({ do: 'device', device: 0, ...extra });
export const page = (iova: number, paddr: number, extra: Extra<PageStep> = {}): Action => ({
  do: 'page',
  iova,
  paddr,
  ...extra,
});
export const entry = (iova: number, level: number, lo: number, hi: number, extra: Extra<EntryStep> = {}): Action => ({
  do: 'entry',
  iova,
  level,
  lo,
  hi,
  ...extra,
});
export const on = (extra: Extra<Extract<Action, { do: 'on' }>> = {}): Action => ({ do: 'on', ...extra });

// What software does.
export const writel = (offset: number, value: number): Action => ({ do: 'writel', offset, value });
export const writeq = (offset: number, lo: number, hi: number = 0): Action => ({ do: 'writeq', offset, lo, hi });
export const queue = (...commands: readonly (readonly number[])[]): Action => ({ do: 'queue', commands });
export const gcmd = (value: number): Action => writel(vtd.GCMD_REG, value);

// What a device does, and where it gets.
const dma = (access: 'read' | 'write', arrives: boolean) => {
  return (iova: number, at: number, extra: Extra<DmaStep> = {}): Sight => ({
    see: 'dma',
    access,
    iova,
    at,
    arrives,
    ...extra,
  });
};
type MakeDma = (iova: number, at: number, extra?: Extra<DmaStep>) => Sight;
export const reads: MakeDma = dma('read', true);
export const writes: MakeDma = dma('write', true);
/** `at` is where it would get if nothing stopped it. */
export const readBlocked: MakeDma = dma('read', false);
export const writeBlocked: MakeDma = dma('write', false);
export const block = (
  access: 'read' | 'write',
  iova: number,
  parts: BlockStep['parts'],
  extra: Extra<BlockStep> = {},
): Sight => ({
  see: 'block',
  access,
  iova,
  parts,
  ...extra,
});

// What software sees.
export const record = (
  reason: number,
  address: number,
  access: 'read' | 'write',
  extra: Extra<RecordStep> = {},
): Sight => ({ see: 'record', reason, address, access, ...extra });
export const noRecord = (extra: Exceptions = {}): Sight => ({ see: 'no-record', ...extra });
export const register = (name: string, offset: number, mask: number, value: number, extra: Exceptions = {}): Sight => ({
  see: 'register',
  name,
  offset,
  mask,
  value,
  ...extra,
});
export const word = (name: string, paddr: number, value: number, extra: Exceptions = {}): Sight => ({
  see: 'word',
  name,
  paddr,
  value,
  ...extra,
});

/** The same value seen by one judge instead, and why. */
export const sees = (name: string, value: number, why: string): Otherwise => ({ sees: { [name]: value >>> 0 }, why });

/** Copies of a step. */
export function times<T>(nr: number, make: (index: number) => T): T[] {
  return Array.from({ length: nr }, (_, index) => make(index));
}

// VT-d descriptors (6.5.2).
export const contextGlobal: readonly number[] = [0x11, 0, 0, 0];
export const iotlbGlobal: readonly number[] = [0x12, 0, 0, 0];
/** Waits and stores a word. */
export const waitStore = (paddr: number, data: number): readonly number[] => [0x25, data, paddr, 0];
export const WAIT_INTERRUPT: readonly number[] = [0x15, 0, 0, 0];

// AMD commands (2.4).
export const completionStore = (paddr: number, lo: number, hi: number): readonly number[] => [
  paddr | 1,
  0x10000000 | Math.floor(paddr / TWO_32),
  lo,
  hi,
];
export const COMPLETION_INTERRUPT: readonly number[] = [2, 0x10000000, 0, 0];
export const invalidateDevice = (sid: number): readonly number[] => [sid, 0x20000000, 0, 0];
/** All pages of a domain, its tables' entries too. */
export const invalidateDomain = (domain: number): readonly number[] => [
  0,
  0x30000000 | domain,
  0xfffff003 | 0,
  0x7fffffff,
];
export const INVALIDATE_ALL: readonly number[] = [0, 0x80000000 | 0, 0, 0];
