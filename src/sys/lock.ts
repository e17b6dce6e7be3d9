import { connect, createServer } from "node:net";

const ANSWER_TIMEOUT_MS = 1_000;

/**
 * A lock of this machine's: a Unix socket in the abstract namespace, which the kernel frees when its holder ends,
 * however it ends. The returned function frees it; undefined when somebody else holds it.
 */
export function tryLock(name: string): Promise<(() => Promise<void>) | undefined> {
  const server = createServer((socket) => socket.on("error", () => undefined).end(`${process.pid}\n`));
  server.unref();
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(undefined) : reject(error),
    );
    server.listen(`\0${name}`, () => resolve(() => new Promise((freed) => server.close(() => freed()))));
  });
}

/** The process that holds the lock, as it says itself; undefined when there is none, or it says nothing. */
export function lockHolder(name: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(`\0${name}`);
    const done = (): void => {
      socket.destroy();
      resolve(/^\d{1,10}\n$/.test(text) ? Number(text) : undefined);
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, done);
    socket.on("data", (part) => {
      text = `${text}${part}`.slice(0, 16);
    });
    socket.once("error", done).once("close", done);
  });
}
