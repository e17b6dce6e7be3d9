import { bitsOf, type Cidr, cidrAddress, cidrLength, type Family, familyOf, ipBytes } from "../kit/ip.js";

/**
 * The cryptokey routing table (paper §3): which peer an inner address belongs to, by the longest prefix.
 * Each family is a radix tree whose nodes hold whole prefixes, so that a lookup visits only branching bits.
 */
export class AllowedIps<Owner> {
  #four: Node<Owner> | undefined;
  #six: Node<Owner> | undefined;

  /** A prefix has one owner: giving it to another takes it from the first. */
  insert(cidr: Cidr, owner: Owner): void {
    const leaf: Node<Owner> = {
      bytes: ipBytes(cidrAddress(cidr)),
      length: cidrLength(cidr),
      owner,
      zero: undefined,
      one: undefined,
    };
    if (familyOf(cidr) === 4) this.#four = insertNode(this.#four, leaf);
    else this.#six = insertNode(this.#six, leaf);
  }

  /** The owner of the address that stands at `at` in `packet`; allocates nothing. */
  lookup(packet: Uint8Array, at: number, family: Family): Owner | undefined {
    const bits = bitsOf(family);
    let owner: Owner | undefined;
    let node = family === 4 ? this.#four : this.#six;
    while (node !== undefined && commonBits(node.bytes, 0, packet, at, node.length) === node.length) {
      owner = node.owner ?? owner;
      if (node.length === bits) break;
      node = bitAt(packet, at, node.length) === 0 ? node.zero : node.one;
    }
    return owner;
  }
}

type Node<Owner> = {
  readonly bytes: Uint8Array;
  readonly length: number;
  /** Undefined where two prefixes merely part. */
  owner: Owner | undefined;
  zero: Node<Owner> | undefined;
  one: Node<Owner> | undefined;
};

function insertNode<Owner>(tree: Node<Owner> | undefined, leaf: Node<Owner>): Node<Owner> {
  if (tree === undefined) return leaf;
  const common = commonBits(tree.bytes, 0, leaf.bytes, 0, Math.min(tree.length, leaf.length));
  if (common < tree.length) {
    // The tree hangs below the leaf, or both below a node where they part.
    if (common === leaf.length) return withChild(leaf, tree);
    const fork: Node<Owner> = { bytes: leaf.bytes, length: common, owner: undefined, zero: undefined, one: undefined };
    return withChild(withChild(fork, tree), leaf);
  }
  if (tree.length === leaf.length) {
    tree.owner = leaf.owner;
    return tree;
  }
  const below = bitAt(leaf.bytes, 0, tree.length) === 0 ? tree.zero : tree.one;
  return withChild(tree, insertNode(below, leaf));
}

function withChild<Owner>(parent: Node<Owner>, child: Node<Owner>): Node<Owner> {
  if (bitAt(child.bytes, 0, parent.length) === 0) parent.zero = child;
  else parent.one = child;
  return parent;
}

function bitAt(bytes: Uint8Array, at: number, bit: number): number {
  return ((bytes[at + (bit >> 3)] ?? 0) >> (7 - (bit & 7))) & 1;
}

/** How many leading bits agree, at most `limit`. */
function commonBits(left: Uint8Array, leftAt: number, right: Uint8Array, rightAt: number, limit: number): number {
  for (let bit = 0; bit < limit; bit += 8) {
    const difference = (left[leftAt + (bit >> 3)] ?? 0) ^ (right[rightAt + (bit >> 3)] ?? 0);
    if (difference !== 0) return Math.min(limit, bit + Math.clz32(difference) - 24);
  }
  return limit;
}
