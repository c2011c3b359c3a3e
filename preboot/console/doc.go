// Package console shows the same thing on every console of a machine: the
// screen (VGA text or a framebuffer) and the serial ports.
//
// A [Set] is in one of two modes. It begins with lines that scroll, of which
// the last may be a progress line that is rewritten in place. [Set.Draw]
// changes to a screen of fixed lines. Each terminal has a writer of its own
// which always brings the newest state: a slow line skips states, a stuck one
// holds nobody up, and one that vanishes is dropped.
package console
