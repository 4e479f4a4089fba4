export type { Iova, Paddr, Pfn } from './addr.ts';
export {
  ADDRESS_LIMIT,
  PAGE_SHIFT,
  PAGE_SIZE,
  TWO_32,
  alignDown,
  alignUp,
  fromWords,
  hi32,
  lo32,
  paddrOf,
  pfnOf,
  toIova,
  toPaddr,
  toPfn,
} from './addr.ts';
export { and53, ctz32, field, highestBit, log2Ceil, lowestBit, or53, xor53 } from './bits.ts';
export type { Clock } from './clock.ts';
export { ManualClock } from './clock.ts';
export {
  E2BIG,
  EACCES,
  EADDRINUSE,
  EAGAIN,
  EBUSY,
  EDEADLK,
  EEXIST,
  EFAULT,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENODEV,
  ENOENT,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  ERANGE,
  EREMOTEIO,
  ETIMEDOUT,
  errnoName,
} from './errno.ts';
export { hex, hexRange, hexWords } from './hex.ts';
export { Rng } from './rng.ts';
