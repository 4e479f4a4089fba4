/** Where a long trace's blocks go: a temporary file, so that memory does not grow with the trace. */
import type { SpillStore } from '../replay/index.ts';
import { BLOCK_DOUBLES } from '../replay/index.ts';
import { TemporaryFile } from './temporary-file.ts';

const BLOCK_BYTES = BLOCK_DOUBLES * 8;

/** Opens its file at the first block. Close it when the readers are done. */
export class FileSpill implements SpillStore {
  #file: TemporaryFile | null = null;

  /** @throws FileError */
  write(block: number, data: Float64Array): void {
    this.#file ??= new TemporaryFile();
    this.#file.write(new Uint8Array(data.buffer, data.byteOffset, BLOCK_BYTES), block * BLOCK_BYTES);
  }

  /** @throws FileError */
  read(block: number, into: Float64Array): void {
    this.#file?.read(new Uint8Array(into.buffer, into.byteOffset, BLOCK_BYTES), block * BLOCK_BYTES);
  }

  close(): void {
    this.#file?.close();
    this.#file = null;
  }
}
