package push

import "runtime/debug"

const (
	// frugalPercent is how much the heap may grow between collections while
	// a tree is read and, if it has many names, until the push ends.
	frugalPercent = 25
	// manyNames is from how many names on the tree is most of the heap.
	// With less, collecting more often costs time and saves little.
	manyNames = 200_000
)

// frugal has the heap grow less between collections, until restore is called.
// As what a tree takes stays to the end, and is collected in vain, that is the
// difference between twice of it and a quarter more. It holds for the process.
func frugal() (restore func()) {
	before := debug.SetGCPercent(frugalPercent)
	if before >= 0 && before < frugalPercent { // somebody wants even less
		debug.SetGCPercent(before)
	}
	return func() { debug.SetGCPercent(before) }
}
