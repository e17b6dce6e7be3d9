import { createSocket, type Socket } from "node:dgram";
import { familyOf } from "../kit/ip.js";
import { type DatagramSocket, joined } from "./dgram.js";
import { loadLibc } from "./libc.js";
import { openUdpPair, type UdpSocket } from "./udp.js";
import { WholeDatagrams } from "./wholedatagrams.js";

/** A DatagramSocket that can send a datagram whole: Node does not set the option for it, so the descriptor is ours. */
export async function openProbeSocket(port: number): Promise<DatagramSocket> {
  const libc = loadLibc();
  const { ip4, ip6 } = openUdpPair(libc, port, { mark: 0, join: false, onWarning: () => undefined });
  const whole = new WholeDatagrams(libc);
  const [four, six] = await Promise.all([adopted("udp4", ip4), adopted("udp6", ip6)]);
  return joined(four, six, (to, datagram) => {
    const out = familyOf(to.address) === 4 ? ip4 : ip6;
    if (out !== undefined) whole.send(out.fd, to, datagram);
  });
}

/** Node reads from the descriptor, and closes it. */
async function adopted(type: "udp4" | "udp6", from: UdpSocket | undefined): Promise<Socket | undefined> {
  if (from === undefined) return undefined;
  const socket = createSocket(type);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ fd: from.fd, exclusive: true }, resolve);
  });
  socket.removeAllListeners("error");
  // An error that belongs to one datagram (ICMP, a route gone) is that datagram's.
  socket.on("error", () => undefined);
  socket.unref();
  return socket;
}
