/**
 * Expected failures, as the kernel returns them: negative numbers, so that hot paths test one sign and allocate nothing.
 * Values are Linux's (include/uapi/asm-generic/errno-base.h, errno.h).
 */
export const EPERM = -1;
export const ENOENT = -2;
export const EIO = -5;
export const E2BIG = -7;
export const EAGAIN = -11;
export const ENOMEM = -12;
export const EACCES = -13;
export const EFAULT = -14;
export const EBUSY = -16;
export const EEXIST = -17;
export const ENODEV = -19;
export const EINVAL = -22;
export const ENOSPC = -28;
export const ERANGE = -34;
export const EDEADLK = -35;
export const EOVERFLOW = -75;
export const EMSGSIZE = -90;
export const EOPNOTSUPP = -95;
export const EADDRINUSE = -98;
export const ETIMEDOUT = -110;
export const EREMOTEIO = -121;

const NAMES = new Map<number, string>([
  [EPERM, 'EPERM'],
  [ENOENT, 'ENOENT'],
  [EIO, 'EIO'],
  [E2BIG, 'E2BIG'],
  [EAGAIN, 'EAGAIN'],
  [ENOMEM, 'ENOMEM'],
  [EACCES, 'EACCES'],
  [EFAULT, 'EFAULT'],
  [EBUSY, 'EBUSY'],
  [EEXIST, 'EEXIST'],
  [ENODEV, 'ENODEV'],
  [EINVAL, 'EINVAL'],
  [ENOSPC, 'ENOSPC'],
  [ERANGE, 'ERANGE'],
  [EDEADLK, 'EDEADLK'],
  [EOVERFLOW, 'EOVERFLOW'],
  [EMSGSIZE, 'EMSGSIZE'],
  [EOPNOTSUPP, 'EOPNOTSUPP'],
  [EADDRINUSE, 'EADDRINUSE'],
  [ETIMEDOUT, 'ETIMEDOUT'],
  [EREMOTEIO, 'EREMOTEIO'],
]);

/** The symbolic name of a negative errno, for messages: `EINVAL`, or `errno -7` for a number without a name here. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}
