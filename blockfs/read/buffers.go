package read

import (
	"sync"

	"github.com/inetboot/inetboot/blockfs/block"
)

// buffers hands out memory for blocks and takes it back. Buffers come in steps
// of 64 KiB, so one that a block leaves fits most others; what the garbage
// collector never sees as garbage never makes the heap grow.
type buffers struct {
	mu    sync.Mutex
	free  [maxClass + 1][][]byte
	bytes int // in free
	limit int // most bytes to keep in free
}

const (
	classStep = 64 << 10
	// The longest need is a stored block that is larger than its content.
	maxClass = (block.MaxPlain+block.MaxPlain/128+512)/classStep + 1
)

func class(n int) int { return (n + block.Slack - 4096 + classStep - 1) / classStep }

func classCap(c int) int { return c*classStep + 4096 }

// get returns a buffer of length 0 with room for n bytes and block.Slack.
func (p *buffers) get(n int) []byte {
	c := max(class(n), 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := c; k <= maxClass && k <= c+c/2+1; k++ {
		if l := len(p.free[k]); l > 0 {
			b := p.free[k][l-1]
			p.free[k][l-1] = nil
			p.free[k] = p.free[k][:l-1]
			p.bytes -= cap(b)
			return b
		}
	}
	return make([]byte, 0, classCap(c))
}

// put takes back a buffer that get returned, or drops any other.
func (p *buffers) put(b []byte) {
	c := (cap(b) - 4096) / classStep
	if c < 1 || c > maxClass || cap(b) != classCap(c) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+cap(b) > p.limit {
		return
	}
	p.free[c] = append(p.free[c], b[:0])
	p.bytes += cap(b)
}
