package cache

import "sync"

// buffers hands out memory for records and takes it back, in steps of 64 KiB.
type buffers struct {
	mu    sync.Mutex
	free  [18][][]byte
	bytes int // in free
	limit int
}

const classStep = 64 << 10

// get returns n bytes of any content.
func (b *buffers) get(n int) []byte {
	class := (n + classStep - 1) / classStep
	if class >= len(b.free) {
		return make([]byte, n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.free[class]; len(l) > 0 {
		buf := l[len(l)-1]
		l[len(l)-1] = nil
		b.free[class] = l[:len(l)-1]
		b.bytes -= cap(buf)
		return buf[:n]
	}
	return make([]byte, n, class*classStep)
}

// put takes back what get returned.
func (b *buffers) put(buf []byte) {
	class := cap(buf) / classStep
	if class == 0 || class >= len(b.free) || cap(buf)%classStep != 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+cap(buf) <= b.limit {
		b.free[class] = append(b.free[class], buf)
		b.bytes += cap(buf)
	}
}
