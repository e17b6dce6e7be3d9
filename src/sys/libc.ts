import { Failure } from "../kit/failure.js";
import { type Koffi, loadKoffi } from "./koffi.js";

/**
 * The system calls the packet engine makes, on addresses: a number is passed three times faster than a Buffer,
 * and nothing is allocated. Only Linux with 64-bit pointers; `ioctl`, `open` and `fcntl` are variadic in C, but
 * with integer arguments the calling conventions of x86-64 and arm64 Linux pass them alike.
 */
export type Address = number;

export interface Libc {
  readonly koffi: Koffi;
  /** The errno of the last call. */
  errno(): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  read(fd: number, at: Address, length: number): number;
  write(fd: number, at: Address, length: number): number;
  writev(fd: number, vectors: Address, count: number): number;
  ioctl(fd: number, request: number, at: Address): number;
  eventfd(initial: number, flags: number): number;
  poll(fds: Address, count: number, timeoutMs: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, at: Address, length: number): number;
  getsockname(fd: number, at: Address, lengthAt: Address): number;
  setsockopt(fd: number, level: number, option: number, at: Address, length: number): number;
  recvmmsg(fd: number, at: Address, count: number, flags: number, timeout: Address): number;
  sendmmsg(fd: number, at: Address, count: number, flags: number): number;
  sendto(fd: number, at: Address, length: number, flags: number, to: Address, toLength: number): number;
}

/** Numbers of <asm-generic/*.h>, the same on x86-64 and arm64. */
export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  ENODEV: 19,
  EINVAL: 22,
  EBADFD: 77,
  EMSGSIZE: 90,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
} as const;

export function loadLibc(): Libc {
  const koffi = loadKoffi();
  const c = koffi.load("libc.so.6");
  return {
    koffi,
    errno: () => koffi.errno(),
    open: c.func("open", "int", ["str", "int"]),
    close: c.func("close", "int", ["int"]),
    read: c.func("read", "int64", ["int", "uintptr_t", "size_t"]),
    write: c.func("write", "int64", ["int", "uintptr_t", "size_t"]),
    writev: c.func("writev", "int64", ["int", "uintptr_t", "int"]),
    ioctl: c.func("ioctl", "int", ["int", "ulong", "uintptr_t"]),
    eventfd: c.func("eventfd", "int", ["uint", "int"]),
    poll: c.func("poll", "int", ["uintptr_t", "ulong", "int"]),
    socket: c.func("socket", "int", ["int", "int", "int"]),
    bind: c.func("bind", "int", ["int", "uintptr_t", "uint"]),
    getsockname: c.func("getsockname", "int", ["int", "uintptr_t", "uintptr_t"]),
    setsockopt: c.func("setsockopt", "int", ["int", "int", "int", "uintptr_t", "uint"]),
    recvmmsg: c.func("recvmmsg", "int", ["int", "uintptr_t", "uint", "int", "uintptr_t"]),
    sendmmsg: c.func("sendmmsg", "int", ["int", "uintptr_t", "uint", "int"]),
    sendto: c.func("sendto", "int64", ["int", "uintptr_t", "size_t", "int", "uintptr_t", "uint"]),
  };
}

export function errnoName(errno: number): string {
  return Object.entries(ERRNO).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`;
}

/** What a system call that returned -1 becomes when nobody knows better. */
export function systemFailure(libc: Libc, what: string, code = "system-call-failed"): Failure {
  return new Failure(code, `cannot ${what}: ${errnoName(libc.errno())}`);
}
