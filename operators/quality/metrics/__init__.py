"""How far a face is from the truth: PSNR, SSIM, MS-SSIM, GMSD; with weights at hand also LPIPS, FID, ArcFace angle."""
