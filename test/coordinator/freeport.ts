import { createSocket } from "node:dgram";
import { createServer } from "node:net";

/**
 * Ports for what is started later, below those that the kernel gives away by itself (from 32768 on): one of its choice
 * could be somebody else's before it is used, or while a coordinator is started anew. Each process has its own first one.
 */
const FIRST = 20_000;
const COUNT = 12_768;
const OF_A_PROCESS = 64;
let given = 0;

/** A port that nobody has now, of TCP or of UDP, and that no other test is given. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + ((process.pid * OF_A_PROCESS + given++) % COUNT);
    if ((await isFree(port)) && (await isFreeOfUdp(port))) return port;
  }
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, () => server.close(() => resolve(true)));
  });

const isFreeOfUdp = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket("udp6");
    socket.once("error", () => socket.close(() => resolve(false)));
    socket.bind(port, () => socket.close(() => resolve(true)));
  });
