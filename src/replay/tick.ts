/** Length of a kernel tick in milliseconds: HZ = 250, what distributions build (and what the recorded kernels have). */
export const TICK_MS = 4;
