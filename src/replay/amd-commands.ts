/** AMD-Vi commands (specification 48882, 2.4) as a replay counts and compares them. */
import { amdvi } from '../spec/index.ts';
import type { CommandCounts, CommandSet, PageCommand } from './commands.ts';

/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  CMD_COMPLETION_WAIT,
  CMD_DOMAIN_MASK_W1,
  CMD_INVALIDATE_DEVTAB_ENTRY,
  CMD_INVALIDATE_IOMMU_ALL,
  CMD_INVALIDATE_IOMMU_PAGES,
  CMD_OP_SHIFT_W1,
  INV_PDE_W2,
  INV_SIZE_W2,
} = amdvi;
const TWO_20: number = 2 ** 20;
/** Page number of the address that means all pages of the domain: 0x7fff_ffff_ffff_f000. */
const ALL_PAGES: number = 2 ** 51 - 1;

/**
 * A key is page number of the address field * 4 + PDE * 2 + S: 53 bits, just what a number holds. The GN bit, which no
 * command without guest translation sets, is not in it.
 */
const KEYS_PER_PAGE = 4;

/** Pages that an address field with S set selects, by its page number: 2^(ones from bit 12 up + 1). */
export function selectedPages(page: number): number {
  let pages = 2;
  for (let rest = page; rest % 2 === 1; rest = (rest - 1) / 2) pages *= 2;
  return pages;
}

export const AMD_COMMANDS: CommandSet = {
  model: 'amdvi',
  keysPerPage: KEYS_PER_PAGE,

  count(counts: CommandCounts, _w0: number, w1: number): boolean {
    counts.total += 1;
    const operation = w1 >>> CMD_OP_SHIFT_W1;
    if (operation === CMD_INVALIDATE_IOMMU_PAGES) {
      counts.page += 1;
      return true;
    }
    if (operation === CMD_COMPLETION_WAIT) counts.wait += 1;
    else if (operation === CMD_INVALIDATE_DEVTAB_ENTRY) counts.context += 1;
    else if (operation === CMD_INVALIDATE_IOMMU_ALL) counts.global += 1;
    return false;
  },

  pageKey(w2: number, w3: number): number {
    const page = (w3 >>> 0) * TWO_20 + (w2 >>> 12);
    return page * KEYS_PER_PAGE + (w2 & (INV_SIZE_W2 | INV_PDE_W2));
  },

  pageDomain(_w0: number, w1: number): number {
    return w1 & CMD_DOMAIN_MASK_W1;
  },

  describe(key: number): PageCommand {
    const flags = key % KEYS_PER_PAGE;
    const page = (key - flags) / KEYS_PER_PAGE;
    const pde = (flags & INV_PDE_W2) !== 0;
    if ((flags & INV_SIZE_W2) === 0) return { iova: address(page), pages: 1, pde };
    if (page === ALL_PAGES) return { iova: '0x0', pages: 'all', pde };
    const pages = selectedPages(page);
    return { iova: address(page - (page % pages)), pages, pde };
  },
};

function address(page: number): string {
  // Beyond 2^53 only for pages no device reaches; exact all the same.
  return `0x${(BigInt(page) * 4096n).toString(16)}`;
}
