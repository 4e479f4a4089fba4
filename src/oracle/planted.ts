/** What a planted fault is: one wrong thing in a unit of ours, to show that a difference would be found. */
import type { OracleUnit } from './local-rig.ts';
import type { OracleArch } from './program.ts';
import type { MakeUnit } from './random-run.ts';

export interface PlantedFault {
  readonly id: string;
  readonly arch: OracleArch;
  /** What is wrong, in words. */
  readonly title: string;
  readonly makeUnit: MakeUnit;
}

/** What a fault may do to the accesses of a unit: by default nothing. */
export interface Meddler {
  write32?: (offset: number, value: number) => number;
  write64?: (offset: number, lo: number, hi: number) => readonly [number, number];
  read32?: (offset: number, value: number) => number;
  translate?: (sid: number, iova: number, access: number, outcome: number) => number;
  /** Before translating: another requester, address or access. */
  asks?: (sid: number, iova: number, access: number) => readonly [number, number, number];
}

/** A unit with somebody between it and the rest. */
export function meddle(unit: OracleUnit, meddler: Meddler): OracleUnit {
  return {
    read32: (offset) => meddler.read32?.(offset, unit.read32(offset)) ?? unit.read32(offset),
    write32: (offset, value) => unit.write32(offset, meddler.write32?.(offset, value) ?? value),
    write64: (offset, lo, hi) => unit.write64(offset, ...(meddler.write64?.(offset, lo, hi) ?? ([lo, hi] as const))),
    translate: (sid, iova, access) => {
      const [s, i, a] = meddler.asks?.(sid, iova, access) ?? [sid, iova, access];
      const outcome = unit.translate(s, i, a);
      return meddler.translate?.(sid, iova, access, outcome) ?? outcome;
    },
  };
}
