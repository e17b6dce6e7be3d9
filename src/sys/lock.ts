import { createServer } from "node:net";

/**
 * A lock of this machine's: a Unix socket in the abstract namespace, which the kernel frees when its holder ends,
 * however it ends. The returned function frees it; undefined when somebody else holds it.
 */
export function tryLock(name: string): Promise<(() => Promise<void>) | undefined> {
  const server = createServer((socket) => socket.destroy());
  server.unref();
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(undefined) : reject(error),
    );
    server.listen(`\0${name}`, () => resolve(() => new Promise((freed) => server.close(() => freed()))));
  });
}
