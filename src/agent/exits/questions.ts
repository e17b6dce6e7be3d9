import packet from "dns-packet";
import { familyOf, type Ip } from "../../kit/ip.js";
import { type Millis, SECOND } from "../../kit/time.js";
import type { NameService } from "../../sys/nameservice.js";
import type { Random } from "../../sys/random.js";
import { isReplyTo, RCODE } from "../names/message.js";

/** Whether the Internet is there behind an exit: its resolver is asked for what it has to ask others for. */

const TIMEOUT_MS: Millis = 2 * SECOND;
const DNS_PORT = 53;

/** True when the resolver had an answer. `addresses`: this device's in the tunnel, where the question has to go. */
export async function askBeyond(
  parts: { readonly nameService: NameService; readonly random: Random },
  resolver: Ip,
  addresses: readonly Ip[],
): Promise<boolean> {
  const from = addresses.find((ip) => familyOf(ip) === familyOf(resolver));
  if (from === undefined) return false;
  const [high = 0, low = 0] = parts.random(2);
  const query = new Uint8Array(
    packet.encode({
      ...{ type: "query", id: (high << 8) | low, flags: packet.RECURSION_DESIRED },
      // The root's servers: every resolver knows them, and few forwarders keep them.
      questions: [{ type: "NS", name: "." }],
    }),
  );
  const reply = await parts.nameService
    .ask({ address: resolver, port: DNS_PORT }, query, {
      ...{ over: "udp", from, timeoutMs: TIMEOUT_MS },
      isReply: (message) => isReplyTo(query, message),
    })
    .catch(() => undefined);
  return reply !== undefined && ((reply[3] ?? 0) & 0x0f) === RCODE.noError;
}
