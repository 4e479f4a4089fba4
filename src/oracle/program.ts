/**
 * What a differential run does to two IOMMUs: a list of steps that both are put through, and what can be seen of them
 * afterwards. Plain data, so that a program that shows a difference is a file (`iommukit.oracle-program/1`).
 */

/** One step. Addresses are physical unless they are an `iova`; words are 32 bits, signed or not. */
export type Step =
  /** Software stores one 64-bit word. */
  | { readonly op: 'store'; readonly paddr: number; readonly lo: number; readonly hi: number }
  /** Software writes a register of the unit, 32 or 64 bits wide. */
  | { readonly op: 'writel'; readonly offset: number; readonly value: number }
  | { readonly op: 'writeq'; readonly offset: number; readonly lo: number; readonly hi: number }
  /** A device writes a 16-bit value, as 32 bits. */
  | { readonly op: 'dma-write'; readonly device: number; readonly iova: number; readonly value: number }
  /** A device reads bytes and writes them elsewhere: what was read shows in memory. Blocked reads bring zeroes. */
  | {
      readonly op: 'dma-copy';
      readonly device: number;
      readonly from: number;
      readonly to: number;
      readonly nrBytes: number;
    };

export type OracleArch = 'intel' | 'amd';

export interface Program {
  readonly arch: OracleArch;
  readonly steps: readonly Step[];
}

/** A machine that steps are done to: ours or another. */
export interface Rig {
  step(step: Step): void;
  /** The state that must be equal: registers, and words of memory. @param cells physical addresses. @returns one number each */
  observe(cells: readonly number[]): readonly number[];
  close(): void;
}

/** A register whose bits are compared. */
export interface WatchedRegister {
  readonly name: string;
  readonly offset: number;
  readonly mask: number;
}

export const PROGRAM_SCHEMA = 'iommukit.oracle-program/1';
