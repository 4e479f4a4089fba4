/**
 * Whoever decides whether a driver kept its contract. He sits between the driver and the machine, hears where each call of a
 * scenario begins and ends, and may look at the stage's promises. The scenarios are the same for all of them.
 */
import type { AmdUnitScope, UnitScope } from '../drivers/index.ts';
import type { IommuOps } from '../iommu/index.ts';
import type { Machine } from '../machine/index.ts';
import type { Platform } from '../mem/index.ts';
import type { ContractId } from '../sanitizer/index.ts';
import type { Promises } from './promises.ts';

export type { ContractId };

/** A broken promise, as much of it as every judge can tell. */
export interface Breach {
  readonly contract: ContractId;
  /** The call at whose end it was due, as its caller named it. */
  readonly call: string;
  /** Requester id of a device that shows it, -1 for any. */
  readonly sid: number;
  readonly iova: number;
  readonly nrBytes: number;
}

/** The unit of a machine, with what its architecture tells about it. */
export type UnitPlace = (UnitScope & { readonly arch: 'intel' }) | (AmdUnitScope & { readonly arch: 'amd' });

export interface Judge {
  /** Called once, before the driver exists. @returns what the driver is to be given */
  platform(inner: Platform, units: readonly UnitPlace[]): Platform;
  /** The driver, right after it came up. */
  watch(ops: IommuOps): void;
  /** The stage stands: machine up, nothing attached. */
  started(machine: Machine, promises: Promises): void;
  /** Runs one call of a caller and judges it at its end. */
  call<T>(name: string, body: () => T): T;
  /**
   * Which of `nr` things happens next, where a scenario leaves that open (`Stage.interleave`). Absent: always the first, 0.
   * A judge that tries everything runs the scenario once for each answer.
   */
  choose?(nr: number): number;
  readonly findings: readonly Breach[];
}

/** Judges nothing. */
export class NoJudge implements Judge {
  readonly findings: readonly Breach[] = [];
  platform(inner: Platform): Platform {
    return inner;
  }
  watch(): void {}
  started(): void {}
  call<T>(_name: string, body: () => T): T {
    return body();
  }
}
