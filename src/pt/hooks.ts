/** What PageTable and a driver tell each other while a table is being written. */

/** What a driver wants to know while its table is being written. Called synchronously; must not map or unmap here. */
export interface PageTableHooks {
  /**
   * CPU stores of [paddr, paddr + nrBytes) are done. Set it when hardware does not snoop: the driver flushes the lines.
   * A new table is reported before the entry that links it, so that no walker reaches zeroes that are still in a CPU cache.
   */
  readonly onWritten?: (paddr: number, nrBytes: number) => void;
  /**
   * The table under [iova, iova + nrBytes) held nothing, was unlinked, and a leaf is about to take its entry. Walk caches
   * may still hold the old pointer, and would go on to use it beside the new leaf (Linux mail of April 2021, "Force to flush
   * iotlb before creating superpage"): the driver must invalidate the range *now*, then free `freelist`, which is its own.
   * Absent: nobody caches, the pages are freed at once.
   */
  readonly onTableReplaced?: (iova: number, nrBytes: number, freelist: number[]) => void;
}

/**
 * How kernels differ in what an unmap does to a table. AMD's io_pgtable.c up to 6.18 differs in more, which is not kept: a map
 * over something present overwrites it (here EADDRINUSE); an unmap goes on over absent level-1 entries of a table that exists,
 * and counts them; and it counts all of a leaf that it began in the middle of, the part before the request too.
 */
export interface PageTableOptions extends PageTableHooks {
  /** True: no unmap unlinks a table, however empty (AMD's io_pgtable.c up to 6.18). Default false. */
  readonly keepTables?: boolean;
  /**
   * What an unmap that begins in the middle of a leaf does. `stop` (default): nothing, as generic_pt and Intel's driver.
   * `whole-leaf`: the leaf goes, its part before the request included (AMD's io_pgtable.c up to 6.18).
   */
  readonly partialUnmap?: 'stop' | 'whole-leaf';
}

/** Out-parameter of the map methods: bytes mapped from iova on, also when they failed part way. */
export interface MappedBytes {
  bytes: number;
}
