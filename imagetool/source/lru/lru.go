// Package lru keeps the pieces of an image that were used last.
package lru

import "sync"

// Cache holds pieces by their place. It is safe for concurrent use.
type Cache struct {
	most int

	mu    sync.Mutex
	clock uint64
	items map[int64]*item
}

type item struct {
	used uint64
	once sync.Once
	data []byte
	err  error
}

// New returns a cache of at most the given number of pieces.
func New(most int) *Cache { return &Cache{most: most, items: make(map[int64]*item)} }

// Get returns the piece at key. If it is not there, load makes it, once for
// all who ask at the same time. Errors are not kept. The caller must not change
// what it gets.
func (c *Cache) Get(key int64, load func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	c.clock++
	it := c.items[key]
	if it == nil {
		if len(c.items) >= c.most {
			c.dropOldest()
		}
		it = &item{}
		c.items[key] = it
	}
	it.used = c.clock
	c.mu.Unlock()
	it.once.Do(func() { it.data, it.err = load() })
	if it.err != nil {
		c.mu.Lock()
		if c.items[key] == it {
			delete(c.items, key)
		}
		c.mu.Unlock()
	}
	return it.data, it.err
}

func (c *Cache) dropOldest() {
	oldest, used := int64(0), c.clock+1
	for k, it := range c.items {
		if it.used < used {
			oldest, used = k, it.used
		}
	}
	delete(c.items, oldest)
}
