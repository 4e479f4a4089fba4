/** The layers and what each may import (DESIGN.md section 2). hw and the software stack never see each other. */
export const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  spec: ['base'],
  mem: ['base', 'spec'],
  hw: ['base', 'spec', 'mem'],
  pt: ['base', 'spec', 'mem'],
  iommu: ['base', 'mem', 'pt'],
  drivers: ['base', 'spec', 'mem', 'pt', 'iommu'],
  dma: ['base', 'mem', 'pt', 'iommu'],
  vfio: ['base', 'mem', 'pt', 'iommu'],
  machine: ['base', 'spec', 'mem', 'hw', 'pt', 'iommu', 'drivers', 'dma'],
  check: ['base', 'spec', 'mem', 'hw', 'pt', 'iommu', 'drivers', 'dma', 'vfio', 'machine', 'sanitizer'],
  sanitizer: ['base', 'spec', 'mem', 'iommu'],
  lab: ['base', 'spec', 'mem', 'hw', 'iommu', 'drivers', 'machine', 'sanitizer', 'check'],
  qemu: ['base', 'spec', 'mem', 'pt', 'iommu', 'drivers'],
  trace: ['base'],
  replay: ['base', 'spec', 'mem', 'hw', 'pt', 'iommu', 'drivers', 'dma', 'machine', 'trace'],
  oracle: ['base', 'spec', 'mem', 'hw', 'pt', 'iommu', 'drivers', 'dma', 'vfio', 'machine', 'qemu', 'trace', 'replay'],
  audit: ['base', 'spec', 'trace', 'replay'],
  report: ['base', 'replay', 'audit', 'trace', 'check', 'lab'],
  cli: ['base', 'mem', 'iommu', 'trace', 'machine', 'drivers', 'check', 'lab', 'replay', 'audit', 'report'],
};

/** Layers that run in Node only: the command line, and what talks to another process. */
export const NODE_LAYERS: readonly string[] = ['cli', 'qemu', 'oracle'];

export const LAYERS: readonly string[] = Object.keys(MAY_IMPORT);

/** What a layer reaches by following references: tsc accepts an import of all of these. */
export function reach(layer: string): Set<string> {
  const direct = MAY_IMPORT[layer];
  return new Set([...direct, ...direct.flatMap((below) => [...reach(below)])]);
}
