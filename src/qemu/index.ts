export { EDU_BUFFER_BYTES, EDU_DEVICE, EDU_VENDOR, Edu } from './edu.ts';
export type { PciFunction } from './pci.ts';
export { PciBus } from './pci.ts';
export type { QemuOptions } from './process.ts';
export { QEMU_MEMORY_BYTES, QemuError, sleepMs } from './process.ts';
export type { QemuArch, QemuMachineOptions, QemuStackOptions } from './qemu-machine.ts';
export { AMDVI_BASE, QemuBoard, QemuMachine, VTD_BASE } from './qemu-machine.ts';
export { DATA_PFN, QemuPlatform } from './qemu-platform.ts';
export { Qtest } from './qtest.ts';
