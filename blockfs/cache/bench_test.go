package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/inetboot/inetboot/internal/digest"
)

// Blocks of the size that a push makes on average, so many that the figures
// are those of a cache and not of a processor's.
const (
	benchBlock  = 90 << 10
	benchBlocks = 2000
)

func benchSum(i int) digest.SHA256 { return digest.Of([]byte(fmt.Sprint(i))) }

// BenchmarkPut writes blocks through the queue and brings them to the disk.
func BenchmarkPut(b *testing.B) {
	data := fixedBlock(1, benchBlock)
	b.SetBytes(benchBlock)
	c := mustOpen(b, b.TempDir(), Options{Quota: 1 << 30})
	b.ResetTimer()
	for i := range b.N {
		if err := c.WaitRoom(b.Context(), len(data)); err != nil {
			b.Fatal(err)
		}
		c.Put(benchSum(i), data, false)
	}
	flush(b, c)
}

// BenchmarkPutPlain writes the same into one plain file, and brings it to the disk.
func BenchmarkPutPlain(b *testing.B) {
	data := fixedBlock(1, benchBlock)
	b.SetBytes(benchBlock)
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.ResetTimer()
	for i := range b.N {
		if _, err := f.WriteAt(data, int64(i%10_000)*recordLen(benchBlock)); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkGet reads blocks that the kernel has in memory, in any order.
func BenchmarkGet(b *testing.B) {
	for _, fast := range []bool{true, false} {
		b.Run(fmt.Sprintf("nowait=%v", fast), func(b *testing.B) {
			c := mustOpen(b, b.TempDir(), Options{Quota: 1 << 30})
			data := fixedBlock(1, benchBlock)
			for i := range benchBlocks {
				if err := c.WaitRoom(b.Context(), len(data)); err != nil {
					b.Fatal(err)
				}
				c.Put(benchSum(i), data, false)
			}
			flush(b, c)
			c.noFast.Store(!fast)
			sums := make([]digest.SHA256, benchBlocks)
			for i := range sums {
				sums[i] = benchSum(i)
			}
			rnd := rand.New(rand.NewPCG(1, 1))
			buf := make([]byte, benchBlock)
			b.SetBytes(benchBlock)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, ok := c.Get(b.Context(), sums[rnd.IntN(benchBlocks)], buf); !ok {
					b.Fatal("not there")
				}
			}
		})
	}
}

// BenchmarkGetPlain reads as much from one open file.
func BenchmarkGetPlain(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data := fixedBlock(1, benchBlock)
	for i := range benchBlocks {
		if _, err := f.WriteAt(data, int64(i)*recordLen(benchBlock)); err != nil {
			b.Fatal(err)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	b.SetBytes(benchBlock)
	b.ResetTimer()
	for range b.N {
		if _, err := f.ReadAt(data, rnd.Int64N(benchBlocks)*recordLen(benchBlock)); err != nil {
			b.Fatal(err)
		}
	}
}
