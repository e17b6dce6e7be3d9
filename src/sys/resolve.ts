import { lookup } from "node:dns/promises";
import { Failure } from "../kit/failure.js";
import { type Family, familyOf, type Ip, tryIp } from "../kit/ip.js";

/** A name or an address as one address, of the wanted family when one is wanted. */
export async function lookUp(target: string, family?: Family): Promise<Ip> {
  const literal = tryIp(target);
  if (literal !== undefined) {
    if (family !== undefined && familyOf(literal) !== family)
      throw new Failure("usage", `${target} is not an IPv${family} address`);
    return literal;
  }
  const found = await lookup(target, { family: family ?? 0 }).catch((cause: unknown) => {
    throw new Failure("name-unknown", `the name "${target}" cannot be looked up`, {
      cause,
      advice: "check the spelling; exitnode status shows which way look-ups go",
    });
  });
  const ip = tryIp(found.address);
  if (ip === undefined) throw new Failure("name-unknown", `the name "${target}" has no usable address`);
  return ip;
}
