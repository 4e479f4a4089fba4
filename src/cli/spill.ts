/** Where a long trace's blocks go: an unnamed temporary file, so that memory does not grow with the trace. */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SpillStore } from '../replay/index.ts';
import { BLOCK_DOUBLES } from '../replay/index.ts';

const BLOCK_BYTES = BLOCK_DOUBLES * 8;

/** Opens its file at the first block. Close it when the readers are done. */
export class FileSpill implements SpillStore {
  #fd = -1;

  write(block: number, data: Float64Array): void {
    if (this.#fd < 0) {
      const folder = mkdtempSync(join(tmpdir(), 'iommukit-'));
      const path = join(folder, 'calls');
      this.#fd = openSync(path, 'wx+', 0o600);
      // The file lives as long as its descriptor: nothing is left behind, however the process ends.
      rmSync(folder, { recursive: true, force: true });
    }
    writeSync(this.#fd, new Uint8Array(data.buffer, data.byteOffset, BLOCK_BYTES), 0, BLOCK_BYTES, block * BLOCK_BYTES);
  }

  read(block: number, into: Float64Array): void {
    readSync(this.#fd, new Uint8Array(into.buffer, into.byteOffset, BLOCK_BYTES), 0, BLOCK_BYTES, block * BLOCK_BYTES);
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
