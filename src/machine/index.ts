export type { AmdDriver, AmdMachineOptions } from './amd-machine.ts';
export { AmdMachine } from './amd-machine.ts';
export type { IntelMachineOptions } from './intel-machine.ts';
export { IntelMachine } from './intel-machine.ts';
export type { Stepped } from './local-platform.ts';
export { LocalPlatform } from './local-platform.ts';
export type { Machine, Translator } from './machine.ts';
