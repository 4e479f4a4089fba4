/** AMD-Vi commands (specification 48882, 2.4) as a replay counts and compares them. */
import { amdvi } from '../spec/index.ts';
import type { CommandSet, PageCommand } from './commands.ts';
import { CommandKind } from './commands.ts';

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
const { page: PAGE, global: GLOBAL, context: CONTEXT, wait: WAIT, other: OTHER } = CommandKind;
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

  kindOf(_w0: number, w1: number): CommandKind {
    const operation = w1 >>> CMD_OP_SHIFT_W1;
    if (operation === CMD_INVALIDATE_IOMMU_PAGES) return PAGE;
    if (operation === CMD_COMPLETION_WAIT) return WAIT;
    if (operation === CMD_INVALIDATE_DEVTAB_ENTRY) return CONTEXT;
    return operation === CMD_INVALIDATE_IOMMU_ALL ? GLOBAL : OTHER;
  },

  pageKey(w2: number, w3: number): number {
    const page = (w3 >>> 0) * TWO_20 + (w2 >>> 12);
    return page * KEYS_PER_PAGE + (w2 & (INV_SIZE_W2 | INV_PDE_W2));
  },

  pageDomain(_w0: number, w1: number): number {
    return w1 & CMD_DOMAIN_MASK_W1;
  },

  describe(key: number): PageCommand {
    const pde = ((key % KEYS_PER_PAGE) & INV_PDE_W2) !== 0;
    const pages = this.nrPages(key);
    return { iova: address(this.firstPage(key)), pages: pages === 0 ? 'all' : pages, pde };
  },

  firstPage(key: number): number {
    const page = Math.floor(key / KEYS_PER_PAGE);
    const nr = this.nrPages(key);
    return nr === 0 ? 0 : page - (page % nr);
  },

  nrPages(key: number): number {
    const page = Math.floor(key / KEYS_PER_PAGE);
    if (((key % KEYS_PER_PAGE) & INV_SIZE_W2) === 0) return 1;
    return page === ALL_PAGES ? 0 : selectedPages(page);
  },
};

function address(page: number): string {
  // Beyond 2^53 only for pages no device reaches; exact all the same.
  return `0x${(BigInt(page) * 4096n).toString(16)}`;
}
