export type { Comparison, Difference } from './differential.ts';
export { compare, shrink } from './differential.ts';
export type { LocalRigOptions, OracleUnit } from './local-rig.ts';
export { LocalRig } from './local-rig.ts';
export type { OracleArch, Program, Rig, Step, WatchedRegister } from './program.ts';
export { PROGRAM_SCHEMA } from './program.ts';
export { QEMU_BOARD_VTD, QemuVtd } from './qemu-vtd.ts';
export { QemuRig } from './qemu-rig.ts';
export { VTD_REGISTERS, VtdProgram } from './vtd-programs.ts';
